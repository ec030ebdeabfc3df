"""What the figures to try in the chapters need: their data, from the records, made when the site is built.

    python checks/try_app.py FOLDER [NAME]    a page for each alone, to be served from FOLDER; needs no Quarto

A figure NAME has the words that lead to it in a notebook (see reading.py), a script nbs/site/try_NAME.js, and a module
checks/tries/NAME.py with `NOTEBOOK`, `parts(folder)`, which returns the data, and `check(browser)`, which try_page.py calls.
"""
import importlib
import sys
from pathlib import Path

import nbformat

from apps import ALONE, copy_scripts, write_parts
from reading import tries, try_box
from readme import HERE

STILL = '<figure id="{0}"><p>The still figure {0}</p></figure>'


def modules():
    "The modules of all figures to try, by name."
    return {path.stem: importlib.import_module(f"tries.{path.stem}") for path in sorted((HERE / "checks" / "tries").glob("*.py"))}


def build_tries(folder, names=None):
    "The data of all of them into a folder beside the pages. Returns the reasons why some have none."
    missing = {name: write_parts(folder / f"try-{name}.json", module.parts, needs=(), npm=False)
               for name, module in modules().items() if not names or name in names}
    return {name: reason for name, reason in missing.items() if reason}


def build_alone(folder, names=None):
    "A page for each, without the chapter around it."
    missing = build_tries(folder / "web", names)
    copy_scripts(folder)
    for name, module in modules().items():
        words = tries(nbformat.read(HERE / "nbs" / f"{module.NOTEBOOK}.ipynb", as_version=4))[name]
        markup = STILL.format(getattr(module, "STILL", "fig-none")) + "\n" + try_box(name, words)
        (folder / f"try-{name}.html").write_text(ALONE.format(title=f"Try it: {name}", markup=markup), encoding="utf-8")
    return missing


def main(folder="_web", *names):
    for name, reason in build_alone(Path(folder), names).items(): print(f"{name} {reason}")
    print(f"Serve it with `python -m http.server --directory {folder}` and open http://localhost:8000/try-NAME.html")


if __name__ == "__main__": main(*sys.argv[1:])
