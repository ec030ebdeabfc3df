"""Write README.md from the front page: `python checks/readme.py`. The check in run.py compares the two."""
import base64
import re
from configparser import ConfigParser
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
PICTURE = HERE / "nbs" / "site" / "front.png"  # the front page's figure, for GitHub


def settings():
    config = ConfigParser(delimiters=["="])
    config.read(HERE / "settings.ini", encoding="utf-8")
    return config["DEFAULT"]


def page_name(notebook: str) -> str:
    "What nbdev calls the page of a notebook: 00_data becomes data, 03b_optimizers becomes optimizers."
    return re.sub(r"^\d+[a-zA-Z0-9]*_", "", notebook)


def front_page():
    import nbformat  # not needed for the names above, which the site's filter asks for again and again
    return nbformat.read(HERE / "nbs" / "index.ipynb", as_version=4).cells


def picture() -> bytes:
    "The front page's figure, from its output."
    outputs = [output.get("data", {}) for cell in front_page() for output in cell.get("outputs", [])]
    return base64.b64decode(next(data["image/png"] for data in outputs if "image/png" in data))


def readme() -> str:
    "The front page as plain Markdown: hidden cells left out, the figure as a file, links to chapters made links to the site."
    parts = []
    for cell in front_page():
        marks = re.findall(r"^#\|\s*(\S+)", cell.source, re.M)
        if cell.cell_type == "markdown": parts.append(re.sub(r'<a id="fig-[\w-]+"></a>\*Figure: ', "*", cell.source))
        elif cell.cell_type == "code" and not {"hide", "default_exp", "export"} & set(marks):
            if alt := re.search(r'^#\| fig-alt: "(.*)"$', cell.source, re.M): parts.append(f"![{alt[1]}]({PICTURE.relative_to(HERE).as_posix()})")
            parts += code_cell(cell)
    return with_links_to_site("\n\n".join(part.strip("\n") for part in parts) + "\n")


def with_links_to_site(text):
    site = settings()["doc_host"] + settings()["doc_baseurl"]
    text = re.sub(r"\]\((#fig-[\w-]+)\)", rf"]({site}/index.html\1)", text)
    return re.sub(r"\]\((\w+)\.(?:ipynb|qmd)(#[\w-]+)?\)",
                  lambda link: f"]({site}/{page_name(link[1])}.html{link[2] or ''})", text)


def code_cell(cell):
    "The source, unless it is not to be echoed, and what it printed as Markdown or text."
    if not re.search(r"^#\|\s*echo:\s*false", cell.source, re.M):
        yield "```python\n" + re.sub(r"^#\|.*\n", "", cell.source, flags=re.M) + "\n```"
    for output in cell.outputs:
        data = output.get("data", {})
        if "text/markdown" in data: yield data["text/markdown"]
        elif "text" in output: yield "```\n" + output["text"].rstrip() + "\n```"


if __name__ == "__main__":
    (HERE / "README.md").write_text(readme(), encoding="utf-8")
    PICTURE.write_bytes(picture())
