"""What a chapter shows of the package: a line for each exported function or class, which unfolds into its signature or its source.

nbdev puts a heading, a signature and a docstring before each exported cell. Here they become one line, whose name keeps the
anchor that links lead to. Beneath it stands the source, if the chapter shows it, else the signature as the source has it.
"""
import ast
import functools
import importlib
import re
import sys
from pathlib import Path
from types import UnionType
from typing import Literal, Union, get_args, get_origin

HERE = Path(__file__).resolve().parent.parent
OPEN = 25  # lines: what is shorter is there to be read
WIDTH = 88  # characters that fit the column
SHOWN = re.compile(r"show_doc\([\w.]+\)\s*\Z")
PLACE = re.compile(r"\[source\]\((\S+?/blob/\w+/(\S+?\.py)#L(\d+))\)")
FOLD = '#| code-fold: show\n#| code-summary: "Exported source"\n'
BOX = "::::: {{.book-api{}}}\n{}\n\n{}"  # site/page.lua makes <details> of it; the first paragraph is its line


def source_of(cell): return "".join(cell.get("source") or "")


# --- Signatures

def narrow(line):
    "The line, or two: a comment that would stick out of the column stands above what it explains."
    code, mark, comment = line.rstrip().partition("  # ")
    if len(line) <= WIDTH or not code.strip() or not mark: return [line.rstrip()]
    return [f"{' ' * (len(code) - len(code.lstrip()))}# {comment}", code.rstrip()]


def spread(lines):
    "The head of a function with its first parameter in a line of its own, if it has several lines; so all are shorter."
    indent, first = " " * (len(lines[0]) - len(lines[0].lstrip())), lines[0].find("(") + 1
    if len(lines) == 1 and len(lines[0].partition("  # ")[0]) > WIDTH:
        return [lines[0][:first], f"{indent}    {lines[0][first:lines[0].rindex(')')]},", indent + lines[0][lines[0].rindex(")"):]]
    if len(lines) == 1 or not lines[0][first:].strip(): return lines
    rest = [f"{indent}    {line[first:] if not line[:first].strip() else line.lstrip()}" for line in lines[1:]]
    if rest[-1].startswith(f"{indent}    )"): rest[-1] = rest[-1][4:]
    return [lines[0][:first], f"{indent}    {lines[0][first:]}", *rest]


def head(node, lines):
    "What stands before the body of a function."
    body = node.body[0]
    if body.lineno == node.lineno: return [lines[node.lineno - 1][:body.col_offset].rstrip()]
    return [line for line in lines[node.lineno - 1:body.lineno - 1] if not line.startswith(f"{' ' * body.col_offset}#")]


def signature(node, lines):
    "The head of a function; of a class, the head of its `__init__`, or its fields."
    if not isinstance(node, ast.ClassDef): shown = spread(head(node, lines))
    else:
        bases = ", ".join(map(ast.unparse, node.bases))
        shown = [f"class {node.name}{bases and f'({bases})'}:"]
        made = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
        fields = [line for part in node.body if isinstance(part, ast.AnnAssign) for line in lines[part.lineno - 1:part.end_lineno]]
        if made: shown += spread(head(made, lines))
        elif fields: shown += fields
        else: shown[0] += f"  # parameters as {bases or 'object'}"
    return "\n".join(part for line in shown for part in narrow(line))


# --- The fields of a class that checks what it is given

def in_words(kind):
    "A type as one would say it."
    if get_origin(kind) is Literal: return ", ".join(f"`{value!r}`" for value in get_args(kind)).replace("'", '"')
    if get_origin(kind) in (Union, UnionType): return " or ".join(map(in_words, get_args(kind)))
    return "none" if kind is type(None) else f"`{kind.__name__}`"


def limits(field):
    "The bounds of a number: ≥ 1, < 32."
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    return "".join(f", {sign} {getattr(bound, name)}" for bound in field.metadata for name, sign in signs.items() if hasattr(bound, name))


def table(cls):
    "The fields of a pydantic dataclass: name, type, default, meaning."
    yield from ("| field | type | default | meaning |", "| --- | --- | --- | --- |")
    for name, field in cls.__pydantic_fields__.items():
        default = "none" if field.default is None else f"`{field.default!r}`".replace("'", '"')
        yield f"| `{name}` | {in_words(field.annotation)}{limits(field)} | {default} | {field.description} |"


def fields_of(path, node):
    "The table of a pydantic dataclass; nothing for any other class or function."
    if not any("pydantic" in ast.unparse(mark) for mark in node.decorator_list): return ""
    sys.path.insert(0, str(HERE))
    module = importlib.import_module(".".join(Path(path).with_suffix("").parts))
    return "\n".join(table(getattr(module, node.name))) + "\n\n"


# --- Cells

@functools.cache
def definitions(path):
    "The lines of a module, and its definitions by their line."
    text = (HERE / path).read_text(encoding="utf-8")
    return text.split("\n"), {part.lineno: part for part in ast.parse(text).body}


class Shown:
    "What a cell of nbdev's says of one name: where it is, its node in the source, its first sentence and the rest."
    def __init__(self, cell, headings):
        self.address, self.path, line = PLACE.search("".join(cell["outputs"][0]["data"]["text/markdown"])).groups()
        (self.lines, nodes), self.line = definitions(self.path), int(line)
        self.node = nodes[self.line]
        self.name = self.node.name
        self.titled = self.name.lower() in headings  # the chapter has a section of this name, to which links lead
        said = ast.get_docstring(self.node) or ""
        self.first, _, self.rest = re.sub(r"(?<=[\w)`]\.)\s+(?=[A-Z`])|\n\n", "\0", said, count=1).partition("\0")

    def link(self): return f"[source on GitHub]({self.address}){{.book-source}}\n"

    def box(self):
        parts = [fields_of(self.path, self.node) or f"```python\n{signature(self.node, self.lines)}\n```\n", self.rest, self.link()]
        return BOX.format("", titled([self]), "\n\n".join(filter(None, parts))) + "\n:::::\n"


def titled(shown, names=()):
    "The line of a box: the names with their anchors, the sentence of the only one, and the names of the helpers."
    helpers = ", ".join(f"`{name}`" for name in names if name not in {one.name for one in shown})
    told = ", ".join(f"`{one.name}`" if one.titled else f"[`{one.name}`]{{#{one.name.lower()}}}" for one in shown)
    if len(shown) == 1 and shown[0].first: told += f" [{' '.join(shown[0].first.split())}]{{.book-said}}"
    return told and helpers and f"{told} [with {helpers}]{{.book-said}}" or told or helpers


def names_in(source):
    "What a cell defines: functions and classes, else the names that it sets."
    body = ast.parse(source).body
    defined = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return defined or [target.id for node in body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)]


def is_source(cell): return cell["cell_type"] == "code" and source_of(cell).startswith(FOLD)


def boxes(run, number, headings):
    "Neighbouring cells of nbdev's as boxes; sources that are folded and stand in a row share one."
    shown = {one.name: one for one in (Shown(cell, headings) for cell in run if not is_source(cell))}
    sources = [(cell, names_in(source_of(cell))) for cell in run if is_source(cell)]
    parts, at = [], {}
    for cell, names in sources:
        cell["source"] = source_of(cell).removeprefix(FOLD)
        folded = cell["source"].count("\n") + 1 >= OPEN
        if folded and parts and parts[-1][0]: parts[-1][1].append(cell); parts[-1][2].extend(names)
        else: parts.append([folded, [cell], list(names)])
    done = []

    def add(text): done.append({"cell_type": "markdown", "id": f"api{number}n{len(done)}", "metadata": {}, "source": text})

    for folded, cells, names in parts:
        here = [shown[name] for name in names if name in shown]
        at |= dict.fromkeys(one.name for one in here)
        add(BOX.format("" if folded else " .open", titled(here, names), "".join(fields_of(one.path, one.node) for one in here)))
        done += cells
        add(f"{here[0].link() if here else ''}\n:::::\n")
    rest = sorted((one for name, one in shown.items() if name not in at), key=lambda one: (one.path, one.line))
    if rest: add("\n".join(one.box() for one in rest))
    return done


def with_signatures(notebook):
    "The notebook with a box for what nbdev shows of each exported cell."
    done, run = [], []
    headings = {found.lower() for cell in notebook["cells"] if cell["cell_type"] == "markdown"
                for found in re.findall(r"^#{2,4} (\w+)$", source_of(cell), re.M)}
    for cell in [*notebook["cells"], None]:
        if cell and (is_source(cell) or cell["cell_type"] == "code" and SHOWN.search(source_of(cell))): run.append(cell); continue
        done += boxes(run, len(done), headings) if run else []
        run = []
        if cell: done.append(cell)
    notebook["cells"] = done
    return notebook
