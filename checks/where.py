"""Where a parameter stands: `python checks/where.py smooth` looks through notebooks, tests, checks and pages.

Reads code as code, so that an ordinary word in the text is not taken for the name: parameters, calls with the keyword,
variables, strings that hold the word; then the places in prose where it stands between backticks, and those in scripts."""
import ast
import re
import sys
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent.parent


def python_sources(root):
    "A label and the code of each cell of the notebooks, and of each test and check."
    for path in sorted((root / "nbs").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code": yield f"{path.relative_to(root)} {cell.id}", re.sub(r"^[%!].*", "", cell.source, flags=re.M)
    for path in (path for folder in ("tests", "checks") for path in sorted((root / folder).glob("*.py"))):
        yield str(path.relative_to(root)), path.read_text(encoding="utf-8")


def in_code(source, name):
    "Line, kind and place of each use of a name in Python code, in the order of the lines."
    def visit(node, function):
        line = getattr(node, "lineno", 0)
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            function = getattr(node, "name", "lambda")
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            yield from ((arg.lineno, "parameter", f"of {function}") for arg in every if arg.arg == name)
        elif isinstance(node, ast.Call):
            yield from ((word.value.lineno, "keyword", f"in {ast.unparse(node.func)}(…)") for word in node.keywords if word.arg == name)
        elif isinstance(node, ast.Name) and node.id == name or isinstance(node, ast.Attribute) and node.attr == name:
            yield line, "variable", f"in {function}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(rf"\b{name}\b", node.value):
            yield line, "string", " ".join(node.value.split())[:60]
        for child in ast.iter_child_nodes(node): yield from visit(child, function)
    yield from sorted(set(visit(ast.parse(source), "the cell or file")))


def in_text(root, name):
    "Places outside Python: between backticks in prose and comments, and in pages and scripts."
    for path in sorted((root / "nbs").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for words in re.findall(rf"`[^`\n]*\b{name}\b[^`\n]*`", cell.source):
                yield f"{path.relative_to(root)} {cell.id}", f"{cell.cell_type} text  {words}"
    pages = [root / "README.md", root / "CONTRIBUTING.md", root / "cifar_gradcam" / "explorer.html",
             *(root / "nbs").glob("*.qmd"), *(root / "nbs" / "site").glob("*.js")]
    for path in pages:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(rf"\b{name}\b", line): yield f"{path.relative_to(root)} {number}", f"page    {line.strip()[:90]}"


def main(name):
    for label, source in python_sources(HERE):
        for line, kind, place in in_code(source, name): print(f"{label:42} line {line:3}  {kind:9}  {place}")
    for label, what in in_text(HERE, name): print(f"{label:42} {what}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isidentifier(): sys.exit(__doc__)
    main(sys.argv[1])
