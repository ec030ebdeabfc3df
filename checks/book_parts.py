"""What the parts of a built page have to be: own links, solutions, names of the package, headings, references, terms.

site_check.py calls `faults` with the folder of the site, and `faults_of_words` with its browser.
"""
import ast
import dataclasses
import json
import re
from collections import Counter
from urllib.parse import urldefrag

import numpy as np
from bs4 import BeautifulSoup
from inks import INK, ink_of
from PIL import Image
from readme import HERE, page_name, settings

SITE = settings()["doc_host"] + settings()["doc_baseurl"] + "/"
WIDTH = 88  # characters of code that fit the column
LINES = 21  # of code before a figure; what is longer folds
HEADINGS = ["h1", "h2", "h3", "h4", "h5", "h6"]


def soup(path):
    "The text of a page and its table of contents, without what other checks look at."
    text = path.read_text(encoding="utf-8")
    parts = re.findall(r'<nav id="TOC".*?</nav>|<main\b.*</main>', text, re.S)
    return BeautifulSoup("".join(parts), "html.parser")


def package():
    "The classes of the package, and all public names with the page and the anchor where nbdev has them."
    classes, names = set(), {}
    for path in (HERE / "cifar_gradcam").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.name == "_modidx.py":
            known = ast.literal_eval(next(part.value for part in tree.body if isinstance(part, ast.Assign)))["syms"]
            for module, of in known.items(): names |= {name.removeprefix(f"{module}."): link for name, (link, _) in of.items()}
        classes |= {part.name for part in tree.body if isinstance(part, ast.ClassDef)}
    return classes, {name: link for name, link in names.items() if not name.startswith("_") and "." not in name}


# --- Links that the site makes itself

def links(name, page, commands):
    "Links to what has no place on this site; and to a function, if the word means something else."
    code = "\n".join(cell.get_text() for cell in page.select(".cell pre") if not cell.find_parent("details", "book-api"))
    here = {word for line in re.findall(r"^([\w, ]+?) = ", code, re.M) for word in line.split(", ")}
    for link in page.select("main a:has(> code)"):
        target, anchor = urldefrag(link["href"])
        shown = link.get_text()
        if not re.fullmatch(r"(\w+\.html)?", target) or not re.fullmatch(r"[\w.]+(\(\))?", shown): continue
        if anchor.startswith("_"): yield f"{name} links to a private name: {shown}"
        if shown in here: yield f"{name} sets {shown}, and links to a function of this name"
        around = [word.get_text() for word in (link.find_parent(["p", "li", "tr", "dd"]) or link.parent).find_all("code")]
        typed = name == "command_line" or any(word.startswith(("--", "cifar_gradcam ")) for word in around)
        if shown in commands and typed and anchor != f"{shown}_command": yield f"{name} links the command {shown} to {link['href']}"


# --- Solutions

def solutions(name, page):
    section = page.find("section", id="solutions")
    if section is None: return
    if not section.select("details.book-solution"): yield f"{name} has solutions that do not fold"
    for part in section.select(".cell, .cell-output, pre, figure"):
        if not part.find_parent("details", "book-solution"): yield f"{name} shows a part of a solution: {part.get_text().strip()[:50]!r}"
    if section.select("details.book-solution[open]"): yield f"{name} has a solution that is open"


# --- Names of the package

def signatures(name, page, classes):
    "Signatures that hide their parameters, print a class as a function, or are too wide; sources without a name."
    for box in page.select("details.book-api"):
        shown, first = box.summary.get_text(), box.select_one("pre")
        if not box.summary.find("code"): yield f"{name} has a fold without a name: {shown!r}"
        text = first.get_text() if first else ""
        if "*args, **kwargs" in text and not box.select(".cell"): yield f"{name}: no parameters of {shown}"
        if (wrong := re.match(r"def (\w+)", text)) and wrong[1] in classes: yield f"{name} prints the class {wrong[1]} as a function"
        for line in text.split("\n"):
            if len(line) > WIDTH and not box.select(".cell"): yield f"{name}: {len(line)} characters in the signature of {shown}: {line.strip()}"
    if "Exported source" in page.get_text(): yield f"{name} has a fold that is only called Exported source"


def headings(name, page, public, own):
    "Headings and entries of the contents that are names of functions, and not the chapter's own; folded sources in a row."
    for heading in page.select("#TOC a, " + ", ".join(f"main {level}" for level in HEADINGS)):
        if heading.get_text().strip() in public - own: yield f"{name} has {heading.get_text().strip()} among its headings"
    for box in page.select("details.book-api"):
        after = box.find_next_sibling()
        if after and after.name == "details" and all("open" not in one.attrs and one.select(".cell") for one in (box, after)):
            yield f"{name} has folded sources in a row: {box.summary.get_text()} and {after.summary.get_text()}"


def anchors(name, page, public, own):
    "Names of the package that have no place on their page, or not one that unfolds."
    for public_name, link in public.items():
        target, anchor = urldefrag(link)
        if target != f"{name}.html": continue
        found = page.find_all(id=anchor)
        if len(found) != 1: yield f"{name} has {len(found)} places with the name {anchor}"
        elif not found[0].find_parent("summary") and anchor not in map(str.lower, own): yield f"{name}: {public_name} leads to something else"


def recipe(page):
    "The table of a recipe's fields against the class."
    from cifar_gradcam.engine.runs import Recipe

    rows = [[cell.get_text() for cell in row.find_all("td")] for row in page.find(id="recipe").find_parent("details").select("tbody tr")]
    wanted = [(field.name, "none" if field.default is None else repr(field.default).replace("'", '"')) for field in dataclasses.fields(Recipe)]
    if [(row[0], row[2]) for row in rows] != wanted: yield "runs: the table of the recipe is not that of the class"
    if not all(row[1] and row[3] for row in rows): yield "runs: the table of the recipe has an empty cell"


# --- Figures

def inks(site):
    "Figures whose grey is the same on light and on dark pages, and so below a contrast of 4.5 on both."
    for path in sorted(site.glob("*_files/**/*.*")):
        if path.suffix == ".svg": one = INK in (text := path.read_text(encoding="utf-8")) and "prefers-color-scheme: dark" not in text
        elif path.suffix in (".png", ".webp"): one = ink_of(np.asarray(Image.open(path).convert("RGBA"))).any()
        else: continue
        if one: yield f"{path.relative_to(site)} has one ink for both pages"


def plots(name, page):
    "Long code that stands open before its figure."
    for cell in page.select(".cell"):
        for code in cell.select("pre.sourceCode"):
            lines = len(code.get_text().strip().split("\n"))
            if cell.select(".cell-output-display img") and lines > LINES and not code.find_parent("details"): yield f"{name} has {lines} lines of code open before a figure: {code.get_text().strip()[:40]}"


# --- References

def references(name, page, titles):
    def plain(text): return re.sub(r"\W", "", text).lower()

    for entry in page.select(".csl-entry"):
        if plain(titles[entry["id"].removeprefix("ref-")]) not in plain(entry.get_text()): yield f"{name} lists {entry['id']} without its title"


# --- Terms

def read_glossary():
    "{anchor: (words, chapters, meaning)} from the source of the glossary, as text."
    text = (HERE / "nbs" / "glossary.qmd").read_text(encoding="utf-8")
    found = re.findall(r'^\[.+\]\{#([\w-]+)(?: words="(.*?)")?(?: on="(.*?)")?\}\n: (.+)', text, re.M)
    return {anchor: (words.split(", ") if words else [], on.split(), said) for anchor, words, on, said in found}


def terms(name, number, page, glossary):
    "Definitions that stand where they should not, twice, at a part of a word, or not at the first use."
    used = page.select("main a.book-term")
    for anchor, n in Counter(urldefrag(link["href"])[1] for link in used).items():
        if n > 1: yield f"{name} defines {anchor} {n} times"
    seen = {}
    for link in used:
        anchor, word = urldefrag(link["href"])[1], link.get_text()
        words, on, _ = glossary.get(anchor, ([], [], ""))
        seen[anchor] = link
        if link.find_parent([*HEADINGS, "a", "code", "pre", "math", "details", "figcaption", "table"]) or link.find_parent(class_="callout"): yield f"{name} defines {word} where it should not"
        if word.lower() not in map(str.lower, words): yield f"{name} defines {word} as {anchor}"
        if on and not number.startswith(tuple(on)): yield f"{name} defines {word}, which is for chapters {on}"
        around = "".join(part[-1:] if i == 0 else part[:1] for i, part in enumerate((str(link.previous_sibling or ""), str(link.next_sibling or ""))))
        if re.search(r"[\w-]", re.sub(r"[<>]", "", around)): yield f"{name} defines a part of a word: {word}"
    paragraphs = [part for part in page.select("main p, main li") if not part.find_parent(["details", "figcaption", "table", "blockquote", "header"])
                  and not part.find_parent(class_=["page-facts", "csl-entry", "try", "callout"]) and "page-facts" not in (part.parent.get("class") or [])]
    texts = [text_and_terms(paragraph) for paragraph in paragraphs]
    for anchor, (words, on, _) in glossary.items():
        if not words or on and not number.startswith(tuple(on)): continue
        one = re.compile(r"(?<![\w-])(?:" + "|".join(word if word != word.lower() else f"(?i:{word})" for word in map(re.escape, sorted(words, key=len, reverse=True))) + r")(?![\w-])")
        for text, spans in texts:
            found = [match for match in one.finditer(text) if not any(start < match.end() and match.start() < end and of != anchor for start, end, of in spans)]
            if not found: continue
            if anchor not in seen: yield f"{name} does not define {anchor}: {found[0][0]}"
            elif not any(of == anchor and start <= found[0].start() < end for start, end, of in spans): yield f"{name} defines {anchor} later than it uses it: {found[0][0]}"
            break


def text_and_terms(paragraph):
    "What a paragraph says, without code, formulas and links, and where its terms stand: (start, end, anchor)."
    text, spans = [], []

    def read(parts):
        for part in parts:
            if not part.name: text.append(re.sub(r"\s+", " ", part))
            elif part.name == "a" and "book-term" in part.get("class", []):
                start = sum(map(len, text))
                text.append(re.sub(r"\s+", " ", part.get_text()))
                spans.append((start, start + len(text[-1]), urldefrag(part["href"])[1]))
            else:
                text.append("\1")
                if part.name in ("em", "strong", "p"): read(part.children); text.append("\1")

    read(paragraph.children)
    return "".join(text), spans


def faults(site):
    "The faults of all pages, a line each."
    classes, public = package()
    titles = {key: title.replace(r"\%", "%") for key, title in re.findall(r"^@\w+\{\s*([^,\s]+),.*?^\s*title\s*=\s*\{(.*?)\},?\n", (HERE / "nbs" / "references.bib").read_text(encoding="utf-8"), re.M | re.S)}
    glossary, numbers = read_glossary(), {page_name(path.stem): path.stem for path in (HERE / "nbs").glob("*.ipynb")}
    commands = {name.removesuffix("_command") for name in public if name.endswith("_command")}
    met = set()
    for path in sorted(site.glob("*.html")):
        page, name = soup(path), path.stem
        yield from links(name, page, commands)
        yield from solutions(name, page)
        yield from plots(name, page)
        yield from signatures(name, page, classes)
        own = set()  # the headings that stand in the notebook
        if name in numbers: own = set(re.findall(r'"#{2,4} (\w+)(?:\\n)?"', (HERE / "nbs" / f"{numbers[name]}.ipynb").read_text(encoding="utf-8")))
        yield from headings(name, page, set(public), own)
        yield from anchors(name, page, public, own)
        yield from references(name, page, titles)
        if name == "runs": yield from recipe(page)
        if name == "glossary": yield from (f"glossary: no anchor for {anchor}" for anchor in glossary if not page.select(f"dt [id='{anchor}']"))
        if name in numbers and name != "index": yield from terms(name, numbers[name], page, glossary)
        met |= {urldefrag(link["href"])[1] for link in page.select("a.book-term")}
    yield from inks(site)
    yield from (f"glossary: no chapter uses the words of {anchor}" for anchor, (words, *_) in glossary.items() if words and anchor not in met)


# --- In a browser

TIP = "[...document.querySelectorAll('.book-tip')].filter(tip => tip.checkVisibility())"
HIDDEN = f"!{TIP}.length"
SHOWN = f"{TIP}.length === 1"


def faults_of_words(browser, address, page="gradcam.html"):
    "A definition and the name of a paper by pointer, keyboard and finger; a link to a function."
    faults, glossary = [], read_glossary()

    def expect(script, what):
        browser.run("new Promise(done => setTimeout(done, 500))")
        good = browser.run(script)
        if not good: faults.append(f"{page}: {what}")
        return good

    def point(x, y): browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def middle(element):
        place = browser.run(f"(() => {{ const e = {element}; e.scrollIntoView({{block: 'center', behavior: 'instant'}}); const r = e.getClientRects()[0]; return [r.x + r.width / 2, r.y + r.height / 2]; }})()")
        browser.run("new Promise(done => setTimeout(done, 300))")
        return place

    def touch(x, y):
        browser.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    for kind, width in (("a.book-term", 1440), ("a[href*='arxiv.org']", 1440), ("a.book-term", 390)):
        browser.size(width, 900)
        browser.call("Page.navigate", url=address + page)
        browser.until("document.readyState === 'complete'")
        link = f"document.querySelector({json.dumps('main ' + kind)})"
        height = browser.run("document.documentElement.scrollHeight")
        said = browser.run(f"document.getElementById({link}.getAttribute('aria-describedby')).firstChild.data")
        if kind == "a.book-term":
            meaning = glossary[browser.run(f"{link}.hash.slice(1)")][2]
            if not said.endswith(": " + meaning.replace("'", "’")): faults.append(f"{page} says {said!r}, the glossary {meaning!r}")
        if width > 600:
            point(*middle(link))
            if expect(SHOWN, f"pointing at {kind} shows nothing"):
                inside = browser.run(f"(() => {{ const r = {TIP}[0].getBoundingClientRect(); return [r.x + 9, r.y + 9]; }})()")
                point(*inside)
                expect(SHOWN, f"what {kind} shows cannot be pointed at")
            browser.press("Escape")
            expect(HIDDEN, f"Escape does not hide what {kind} shows")
            browser.run(f"{link}.scrollIntoView({{block: 'center', behavior: 'instant'}}); const all = [...document.querySelectorAll('a, button, summary, input')].filter(e => e.checkVisibility() && e.tabIndex >= 0); all[all.indexOf({link}) - 1].focus()")
            browser.press("Tab")
            expect(f"document.activeElement === {link} && {SHOWN}", f"the keyboard does not show what {kind} says")
            browser.press("Escape")
            expect(HIDDEN, f"Escape does not hide what {kind} shows")
        else:
            browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
            touch(*middle(link))
            if expect(f"location.pathname.endsWith('{page}') && {SHOWN}", "a tap shows no definition"):
                expect(f"{TIP}.every(tip => {{ const r = tip.getBoundingClientRect(); return r.left >= 0 && r.right <= {width}; }})", "a definition sticks out of a phone")
                if browser.run("document.documentElement.scrollHeight") != height: faults.append(f"{page}: a definition moves the page")
                touch(*middle(link))
                browser.until("document.readyState === 'complete'")
                expect("location.pathname.endsWith('glossary.html')", "a second tap does not lead to the glossary")
            browser.call("Emulation.setTouchEmulationEnabled", enabled=False)
    browser.size(1440, 900)
    browser.call("Page.navigate", url=f"{address}{page}#explain")
    browser.until("document.readyState === 'complete'")
    expect("document.querySelector('#explain').closest('details').open", "a link to a function does not open it")
    expect("(() => { const r = document.querySelector('#explain').getBoundingClientRect(); return document.elementFromPoint(r.x + 9, r.y + 9)?.closest('#explain'); })() !== null", "a function that a link leads to lies under the bar")
    return faults
