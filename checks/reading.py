"""Filter of notebooks for Quarto: what reads well in Jupyter becomes Quarto's notation. From stdin to stdout.

`_quarto.yml` names this file: `ipynb-filters: [../checks/reading.py]`, as seen from `_proc/`, where nbdev leaves the notebooks.
CONTRIBUTING.md, "How a chapter is written", describes the notation.
"""
import ast
import json
import re
import sys
from html import escape
from pathlib import Path

from chapter_map import with_map
from inks import inked
from readme import HERE, settings
from signatures import source_of, with_signatures

BIBLIOGRAPHY = HERE / "nbs" / "references.bib"
SITE = settings()["doc_host"] + settings()["doc_baseurl"] + "/"
CALLOUTS = {"Remember": "tip", "Note": "note", "Warning": "warning"}
COLAB = "https://colab.research.google.com/"
LABEL = re.compile(r"^#\|\s*label:\s*(fig-[\w-]+)\s*$", re.M)
OLD_CAPTION = re.compile(r"^#\|\s*fig-cap:", re.M)
ANCHOR = re.compile(r'<a id="(fig-[\w-]+)">')
CAPTION = re.compile(r'\A\s*<a id="(fig-[\w-]+)"></a>\s*\*Figure:\s*((?:(?!\n\s*\n).)+?)\*\s*(?:\n\s*\n|\Z)', re.S)
LINK = re.compile(r"\]\(([^()\s]+)\)(?!\{)")
CODE_IN_LINK = re.compile(r"\[(`[^`]+`)\]\([^()\s]+\)")
LINK_BY_NBDEV = re.compile(rf"\[(`([\w.]+)(\(\))?`)\]\({re.escape(SITE)}([\w.]+)#([\w.]+)\)")
SENTENCE = re.compile(r"(.+?(?:[.!?]\s+|\n(?=\s*(?:\n|[|-] ))|\Z))", re.S)
LINK_IN_LINK = re.compile(rf"\[((?:[^\[\]]|{CODE_IN_LINK.pattern})*{CODE_IN_LINK.pattern}(?:[^\[\]]|{CODE_IN_LINK.pattern})*)\](?=\()")
FENCE = re.compile(r"^(```+|~~~+)[^\n]*\n.*?^\1[`~]*[ \t]*$", re.M | re.S)
BOX = "::::: {.book-solution}"  # site/page.lua makes <details> of it; Quarto's folded callouts cannot be opened by keyboard


class Fault(ValueError):
    "What an author has to put right in a notebook."


def as_lines(text):
    "Quarto reads a cell as a list of lines; of a string it would lose the ends of the lines."
    return [part for part in re.split(r"(?<=\n)", text) if part]


def prose(text, change):
    "The text with `change` made to all of it but fenced code."
    parts, start = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[start:fence.start()]), fence[0]]
        start = fence.end()
    return "".join([*parts, change(text[start:])])


# --- HTML output

def plain(notebook):
    """HTML output becomes a raw block of Markdown.

    Quarto takes every text/html output for a widget and puts jQuery and require.js, from a CDN, into the page. A frame needs neither.
    """
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" not in data: continue
            page = "".join(data.pop("text/html"))
            data["text/markdown"] = f"```{{=html}}\n{page}\n```\n"
    return notebook


# --- The list of references

def read_bibliography(text):
    "The entries of a .bib file: {key: {field: value}}, braces of values removed."
    entries = {}
    for head in re.finditer(r"^@(\w+)\{\s*([^,\s]+)\s*,", text, re.M):
        end = text.find("\n@", head.end())
        body = text[head.end():end if end >= 0 else len(text)]
        fields = {}
        for field in re.finditer(r"^\s*(\w+)\s*=\s*\{", body, re.M):
            depth, at = 1, field.end()
            while depth:
                depth += {"{": 1, "}": -1}.get(body[at], 0)
                at += 1
            fields[field[1].lower()] = re.sub(r"[{}]|\\(?=%)", "", body[field.end():at - 1]).replace("--", "–")
        entries[head[2]] = fields
    return entries


def authors(entry, most=3):
    "Family names: all of them up to `most`, else the first and et al."
    names = [name.split(",")[0].strip() for name in re.split(r"\s+and\s+", entry.get("author", ""))]
    others = "others" in names
    names = [name for name in names if name != "others"]
    if others or len(names) > most: return f"{names[0]} et al."
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def described(entry):
    "Authors (year). Title. Venue."
    venues = ("journal", "booktitle", "institution", "publisher", "howpublished", "archiveprefix")
    venue = next((entry[k] for k in venues if k in entry), "")
    title = entry["title"] + "." * (entry["title"][-1] not in ".?!")
    return " ".join(filter(None, (f"{authors(entry)} ({entry['year']}).", title, f"{venue}." if venue else "")))


def place(address):
    "An address without what makes no difference."
    return re.sub(r"^http:", "https:", address.split("#")[0].rstrip("/"))


def addresses(entries):
    "{address: key} of all entries, by `url` and by `doi`."
    found = {}
    for key, entry in entries.items():
        for address in (entry.get("url"), "doi" in entry and f"https://doi.org/{entry['doi']}"):
            if not address: continue
            if found.setdefault(place(address), key) != key:
                raise Fault(f"references.bib: {found[place(address)]} and {key} have the same address")
    return found


def with_references(notebook, keys):
    "The keys in the front matter, so that the page ends with a list of these works."
    if not keys: return
    line = f"nocite: {json.dumps(', '.join(f'@{key}' for key in sorted(keys)))}"
    first = notebook["cells"][0] if notebook["cells"] else {}
    front = re.match(r"\s*---\n(.*?)\n---\s*\Z", source_of(first), re.S) if first.get("cell_type") == "raw" else None
    if front: first["source"] = f"---\n{front[1].rstrip()}\n{line}\n---\n\n"
    else: notebook["cells"].insert(0, {"cell_type": "raw", "id": "front", "metadata": {}, "source": f"---\n{line}\n---\n"})


# --- Figures

def captions(notebook):
    "Caption cells go into the code cells of their figures. Returns the labels, in order."
    labelled = {}
    for cell in notebook["cells"]:
        for label in LABEL.findall(source_of(cell)) if cell["cell_type"] == "code" else []:
            if label in labelled: raise Fault(f"two figures have the label {label}")
            labelled[label] = cell
    kept, faults = [], []
    for cell in notebook["cells"]:
        text = source_of(cell)
        anchors = ANCHOR.findall(text) if cell["cell_type"] == "markdown" else []
        if not anchors: kept.append(cell); continue
        caption = CAPTION.match(text)
        if not caption or len(anchors) > 1:
            faults.append(f'the caption of {anchors[0]} cannot be read: the cell should be <a id="{anchors[0]}"></a>*Figure: …*')
        elif caption[1] not in labelled:
            faults.append(f"there is a caption for {caption[1]}, but no visible code cell with this label")
        elif OLD_CAPTION.search(code := source_of(labelled[caption[1]])):
            faults.append(f"{caption[1]} has two captions")
        else:
            words = json.dumps(" ".join(caption[2].split()), ensure_ascii=False)
            labelled[caption[1]]["source"] = LABEL.sub(lambda line, words=words: f"{line[0].rstrip()}\n#| fig-cap: {words}", code, count=1)
            if rest := text[caption.end():].strip(): kept.append(cell | {"source": rest})
    notebook["cells"] = kept
    faults += [f"{label} has no caption" for label, cell in labelled.items() if not OLD_CAPTION.search(source_of(cell))]
    if faults: raise Fault("; ".join(faults))
    return list(labelled)


# --- Links that nbdev makes of names in backticks

def set_here(notebook):
    "Names that the cells of a chapter set: there they are what the words between backticks mean."
    names = set()
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code" or "show_doc(" in source_of(cell): continue
        try: body = ast.parse(source_of(cell)).body
        except SyntaxError: continue  # commands of Jupyter
        for part in body:
            if isinstance(part, (ast.FunctionDef, ast.ClassDef)): continue
            names |= {node.id for node in ast.walk(part) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names


def words_of_terminal():
    "What can be typed after `cifar_gradcam`, and the fields of a recipe, which are options too."
    parts = [(HERE / "cifar_gradcam" / "engine" / f"{name}.py").read_text(encoding="utf-8") for name in ("cli", "runs")]
    return set(re.findall(r'"([a-z]\w*)"', parts[0])) | set(re.findall(r"^    (\w+): Annotated", parts[1], re.M))


def with_own_links(text, here, terminal, commands):
    """Links to functions lead to where the function is, on this site.

    No link: what is not on the site, what a cell of this chapter sets, and a word of the command line in a sentence about it.
    """
    def one(link, sentence):
        shown, name, call, page, anchor = link.groups()
        if f"{name}_command" in commands: return f"[{shown}](#{name}_command)"
        typed = name in terminal and re.search(r"`(?:--|cifar_gradcam )", sentence)
        if anchor.startswith("_") or not call and (name in here or typed): return shown
        return f"[{shown}]({page}#{anchor.split('.')[0]})"  # a method is shown with its class

    text = SENTENCE.sub(lambda part: LINK_BY_NBDEV.sub(lambda link: one(link, part[0]), part[0]), text)
    return text.replace(f"]({SITE}", "](")


# --- Links, callouts, solutions

def with_links(text, labels, entries, places, used):
    "Links to figures, papers and Colab, with what Quarto needs to show more than an address."
    def one(link):
        address = link[1]
        if address.startswith("#fig-"):
            if address[1:] not in labels: raise Fault(f"a link leads to {address[1:]}, and no figure has this label")
            return f"]({address}){{.quarto-xref}}"  # pointing at it shows the figure
        if address.startswith(COLAB): return f"]({address}){{.colab}}"
        if not (key := places.get(place(address))): return link[0]
        used.add(key)
        return f"]({address} {json.dumps(described(entries[key]).replace(chr(34), chr(39)), ensure_ascii=False)})"

    # nbdev makes links of names in backticks, also inside of links.
    text = LINK_IN_LINK.sub(lambda outer: f"[{CODE_IN_LINK.sub(lambda inner: inner[1], outer[1])}]", text)
    return LINK.sub(one, text)


def with_callouts(text):
    "Block quotes that begin with a bold Remember, Note or Warning become callouts."
    lines, done = text.split("\n"), []
    while lines:
        start = re.match(rf"> ?\*\*({'|'.join(CALLOUTS)})\.?\*\*\.?\s*", lines[0])
        if not start: done.append(lines.pop(0)); continue
        quote = [lines.pop(0)[start.end():]]
        while lines and lines[0].strip(): quote.append(re.sub(r"^> ?", "", lines.pop(0)))
        done += ["", f"::: {{.callout-{CALLOUTS[start[1]]}}}", f"## {start[1]}", "", *quote, ":::", ""]
    return "\n".join(done)


TRY = re.compile(r"> ?\*\*Try it\.\*\* (.*?\[[^\]]*\]\([^()\s]*#try-([\w-]+)\).*)")
SCRIPT = '<script src="site/{}.js" defer></script>'


def try_box(name, words):
    "What the page of a chapter has in place of the words that lead there: a box that site/try_NAME.js fills."
    words = re.sub(r"\[([^\]]*)\]\([^()\s]*\)", r"\1", words).removeprefix("On the site of this book you can ")
    words = words[0].upper() + words[1:]
    return (f'<link rel="stylesheet" href="site/try.css">\n<section class="try" id="try-{name}" aria-label="Try it">'
            f'<p><b>Try it.</b> {escape(words)}</p><noscript><p class="try-quiet">This needs JavaScript.</p></noscript></section>\n'
            f'{SCRIPT.format("book")}\n{SCRIPT.format(f"try_{name}")}')


def tries(notebook):
    "The name and the words of each thing to try in a notebook: block quotes that begin with a bold Try it and link to #try-NAME."
    return {found[2]: found[1] for cell in notebook["cells"] if cell["cell_type"] == "markdown" for found in TRY.finditer(source_of(cell))}


def with_tries(text):
    return TRY.sub(lambda found: f"```{{=html}}\n{try_box(found[2], found[1])}\n```", text)


FOLD = re.compile(r"^#\|\s*fold:\s*(.+?)\s*\n", re.M)


def with_folds(notebook):
    "A code cell that begins with `#| fold: words` goes into a folded box that these words name, with its output."
    kept = []
    for cell in notebook["cells"]:
        found = FOLD.search(text := source_of(cell)) if cell["cell_type"] == "code" else None
        parts = [cell]
        if found:
            before, after = ({"cell_type": "markdown", "id": f"{cell['id']}{end}", "metadata": {}, "source": box}
                             for end, box in (("open", f"{BOX}\n[{found[1]}]{{.summary}}\n"), ("close", ":::::")))
            parts = [before, cell | {"source": FOLD.sub("", text)}, after]
        kept += parts
    notebook["cells"] = kept
    return notebook


class Solutions:
    "Each section of level 3 beneath the heading Solutions becomes a folded box, with the code and the outputs in it."
    def __init__(self): self.inside = self.open = False

    def close(self):
        was, self.open = self.open, False
        return ["", ":::::", ""] if was else []

    def text(self, text):
        done = []
        for line in text.split("\n"):
            heading = re.match(r"(#{1,3})\s+(.*?)\s*$", line)
            if heading: done += self.close()
            if heading and len(heading[1]) < 3: self.inside = heading[2] == "Solutions"
            if heading and len(heading[1]) == 3 and self.inside:
                self.open = True
                done += ["", BOX, f"[{heading[2]}]{{.summary}}", ""]
            else: done.append(line)
        return "\n".join(done)

    def code(self, source):
        if not self.inside: return source
        return re.sub(r"^#\|\s*code-(?:fold|summary):.*\n", "", source, flags=re.M)


def reading(notebook, bibliography=None):
    "The notebook in Quarto's notation; a `Fault` says what an author has to put right."
    entries = read_bibliography(BIBLIOGRAPHY.read_text(encoding="utf-8") if bibliography is None else bibliography)
    places, used, labels, solutions = addresses(entries), set(), captions(notebook), Solutions()
    here, terminal = set_here(notebook), words_of_terminal()
    commands = set(re.findall(r"show_doc\((\w+_command)\)", "\n".join(map(source_of, notebook["cells"]))))

    def linked(text):
        return prose(text, lambda part: with_links(with_own_links(part, here, terminal, commands), labels, entries, places, used))

    def in_caption(line): return f"{line[1]}{json.dumps(linked(json.loads(line[2])), ensure_ascii=False)}"

    for cell in with_folds(with_signatures(notebook))["cells"]:
        text = source_of(cell)
        if cell["cell_type"] == "markdown":
            text = prose(linked(prose(prose(text, with_map), with_tries)), lambda part: with_callouts(solutions.text(part)))
        elif cell["cell_type"] == "code":
            text = re.sub(r'^(#\| fig-cap: )(".*")$', in_caption, solutions.code(text), flags=re.M)
        cell["source"] = text
        for data in (output.get("data", {}) for output in cell.get("outputs", [])):
            if "text/markdown" in data: data["text/markdown"] = with_callouts(linked("".join(data["text/markdown"])))
    if solutions.open:
        notebook["cells"].append({"cell_type": "markdown", "id": "endofsolutions", "metadata": {}, "source": ":::::"})
    with_references(notebook, used)
    for cell in notebook["cells"]: cell["source"] = as_lines(cell["source"])
    return plain(inked(notebook))


def name_of(text):
    "The file that Quarto reads: it hands on the text only."
    same = (path.name for path in Path().glob("*.ipynb") if path.read_text(encoding="utf-8") == text)
    return next(same, "a notebook")


def main():
    text = sys.stdin.read()
    try: made = reading(json.loads(text))
    except Fault as fault: sys.exit(f"{name_of(text)}: {fault}")
    json.dump(made, sys.stdout)


if __name__ == "__main__": main()
