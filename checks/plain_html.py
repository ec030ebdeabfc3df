"""Filter of notebooks for Quarto: HTML output becomes a raw block of Markdown. Reads a notebook from stdin, writes it to stdout.

Quarto takes every text/html output for a widget and puts jQuery and require.js, from a CDN, into the page. A frame
needs neither. `_quarto.yml` names this file: `ipynb-filters: [../checks/plain_html.py]`, as seen from `_proc/`.
"""
import json
import sys


def plain(notebook):
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" not in data: continue
            page = "".join(data.pop("text/html"))
            data["text/markdown"] = f"```{{=html}}\n{page}\n```\n"
    return notebook


if __name__ == "__main__": json.dump(plain(json.load(sys.stdin)), sys.stdout)
