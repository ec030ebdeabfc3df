"""Build the site and walk it in a real browser: `python checks/site_check.py [FOLDER]` builds into FOLDER, `make docs` into _docs."""
import functools
import gzip
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import book_parts
from PIL import Image, ImageDraw, ImageFont

from browser import Browser, find_browser
from picture_app import build_app
from book_parts import SITE
from readme import HERE, page_name, picture, settings
from slim import slim
from train_app import build_train
from try_app import build_tries

SERVED_UNDER = settings()["doc_baseurl"] + "/"
# Bytes on the wire before a click: of a chapter, read to its end, and of the front page.
MOST_BYTES = 1_000_000
# The explorer holds all mistakes with their maps; chapter 18 shows photographs.
MOST_OF_PAGE = {"index.html": 300_000, "explorer.html": 1_700_000, "pictures.html": 1_300_000}
COMPRESSED = (".html", ".css", ".js", ".mjs", ".json", ".svg", ".wasm")  # by every server, the rest is so already
READ_BY_SCRIPTS = {"train_here.html": r"[\d.]+,.*"}  # a curve to train with
# What people look for, and the page they should find.
SEARCHES = {"residual networks": "residual_networks", "LR finder": "lr_finder", "one cycle": "onecycle_training",
            "cutout": "augmentations", "checkpoint": "runs", "Grad-CAM": "gradcam", "install": "index", "how to train": "index"}


def copy_of_sources(folder):
    "What export, clean and the site read and write, in a folder where they may."
    for name in ("nbs", "cifar_gradcam", "checks", "tests"):
        shutil.copytree(HERE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    for name in ("settings.ini", "setup.py", "README.md", "pyproject.toml", "_quarto.yml"):
        shutil.copy(HERE / name, folder)
    return folder


def write_card(path):
    "The picture that links to the site carry: the book's title, and the front page's figure on white."
    from matplotlib import font_manager
    bold = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight="bold"))
    card, figure = Image.new("RGBA", (1200, 630), "white"), Image.open(io.BytesIO(picture())).convert("RGBA")
    figure.thumbnail((1140, 480))
    pen = ImageDraw.Draw(card)
    pen.rectangle((0, 0, 1200, 132), fill="#1f5fa8")
    pen.text((40, 36), "Why does it call this dog a cat?", font=ImageFont.truetype(bold, 46), fill="white")
    pen.text((40, 592), "ResNet-18 on CIFAR-10, and Grad-CAM: a book that runs", font=ImageFont.truetype(bold, 22), fill="#1f5fa8")
    card.alpha_composite(figure, ((1200 - figure.width) // 2, 132 + (450 - figure.height) // 2))
    card.convert("RGB").save(path, optimize=True)


def add_skip_link(site):
    "The first thing that the keyboard reaches on a page leads past the navigation."
    link = '<a class="book-skip" href="#quarto-document-content">Skip to the text</a>'
    for path in site.glob("*.html"): path.write_text(re.sub(r"<body\b[^>]*>", lambda tag: tag[0] + link, path.read_text(encoding="utf-8"), count=1), encoding="utf-8")


def build(out: Path) -> Path:
    "The site, with the notebooks to download beside it; sources are copied aside, so the checkout stays as it is."
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_sources(Path(folder))
        (copy / "README.md").touch()  # newer than the front page: nbdev leaves it alone, readme.py writes it
        write_card(copy / "nbs" / "site" / "card.png")
        done = subprocess.run(["nbdev_docs"], cwd=copy, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode: raise AssertionError(f"nbdev_docs failed:\n{done.stdout[-6000:]}")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(copy / "_docs", out)
        (out / "notebooks").mkdir()
        for path in (copy / "nbs").glob("*.ipynb"): shutil.copy(path, out / "notebooks")
    add_skip_link(out)
    slim(out)
    if missing := build_app(out / "web"): print(f"The page of your own picture comes without its network: it {missing}.")
    if missing := build_train(out / "web"): print(f"The page on which one trains comes without its graphs: it {missing}.")
    for name, missing in build_tries(out / "web").items(): print(f"The figure to try {name} comes without its data: it {missing}.")
    return out


class Page(HTMLParser):
    "The links and the anchors of a page, and the mistakes that its explorer opens."
    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value and ("rel", "canonical") not in attrs: self.links.append(value)
            if name == "srcdoc": self.anchors |= {f"mistake-{i}" for found in re.findall(r'"index":\[([\d,]+)\]', value) for i in found.split(",")}
            if name == "id" or (name == "name" and tag == "a"): self.anchors.add(value)


def dead_links(site):
    "Links to pages, files or places in pages that are not there, and links to this site by its address, which nothing would follow."
    pages, dead = {path: Page(path) for path in site.rglob("*.html")}, []
    for path, page in pages.items():
        for link in page.links:
            address, anchor = urldefrag(link)
            url = urlparse(address)
            if link.startswith(SITE): dead.append(f"{path.name}: {link}, by the address of the site")
            if url.scheme or url.netloc: continue
            # The page for lost addresses names the others by their place on the server.
            base, place = path.parent, unquote(url.path)
            if place.startswith(SERVED_UNDER): base, place = site, place.removeprefix(SERVED_UNDER)
            target = (base / place).resolve() if place else path
            if target.is_dir(): target /= "index.html"
            if not target.exists(): dead.append(f"{path.name}: {link}")
            elif re.fullmatch(READ_BY_SCRIPTS.get(target.name, ""), unquote(anchor)): continue
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
                dead.append(f"{path.name}: {link}")
    return dead


def without_skip_link(site):
    "Pages on which the keyboard does not reach first what leads past the navigation."
    for path in sorted(site.glob("*.html")):
        first = re.search(r"<(?:a|button|input|select|summary)\b[^>]*>", path.read_text(encoding="utf-8").partition("<body")[2])
        if not first or "book-skip" not in first[0]: yield f"{path.name} does not begin with the skip link"


def tex_in_search(site):
    "Formulas that the search has as TeX too, beside what a page shows."
    entries = json.loads((site / "search.json").read_text(encoding="utf-8"))
    for path in sorted(site.glob("*.html")):
        formulas = {unescape(tex) for tex in re.findall(r'<annotation encoding="application/x-tex">(.*?)</annotation>', path.read_text(encoding="utf-8"), re.S)}
        text = "\n".join(entry["text"] for entry in entries if urldefrag(entry["href"])[0] == path.name)
        if found := [tex for tex in formulas if "\\" in tex and tex in text]: yield f"the search has {len(found)} formulas of {path.name} as TeX: {found[0]}"


def raw_links(site):
    "Pages that show the Markdown of a link: one inside of another, or inside of code."
    for path in site.glob("*.html"):
        if (n := path.read_text(encoding="utf-8").count("](http")): yield f"{path.name} shows {n} links as Markdown"


def raw_markup(site):
    "Pages that show marks of Quarto's notation outside of code."
    for path in site.glob("*.html"):
        text = re.sub(r"<(script|style|pre|code)\b.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.S)
        left = re.findall(r":::|@fig-|\{\.[\w-]+|\[@\w+|&lt;a id=", text)
        if left: yield f"{path.name} shows {', '.join(sorted(set(left)))}"


def without_card(site):
    "Pages that show something else than the card, or nothing, where links to them are shown; or a card of another size."
    card = site / "site" / "card.png"
    if not card.exists() or Image.open(card).size != (1200, 630): yield "the card is not there in 1200 × 630 pixels"
    for path in sorted(site.glob("*.html")):
        text = path.read_text(encoding="utf-8")
        for name in ("og:image", "twitter:image"):
            found = re.findall(rf'<meta (?:property|name)="{name}" content="([^"]*)"', text)
            if len(found) != 1 or not found[0].endswith("/site/card.png"): yield f"{path.name} has as {name} {found or 'nothing'}"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass

    def translate_path(self, path):
        return super().translate_path(path.removeprefix(SERVED_UNDER.rstrip("/")))

    def copyfile(self, source, outputfile):
        try: super().copyfile(source, outputfile)
        except (BrokenPipeError, ConnectionResetError): pass  # the browser has gone to the next page

    def send_error(self, *args, **kwargs):
        try: super().send_error(*args, **kwargs)
        except (BrokenPipeError, ConnectionResetError): pass


def served(site):
    "A server of the site on this machine; its search needs one."
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}{SERVED_UNDER}"


def axe_source():
    "The text of axe-core from npm, kept in the user's cache; None where it cannot be had."
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cifar_gradcam" / "npm"
    script = cache / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists() and shutil.which("npm"):
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--prefix", cache, "axe-core@4"], capture_output=True, check=False)
    return script.read_text(encoding="utf-8") if script.exists() else None


WIDE_OUTPUTS = """[...document.querySelectorAll('.cell-output pre, .cell-output img, .cell-output svg')].filter(e => {
  const r = e.getBoundingClientRect();
  return r.width && (e.scrollWidth > e.clientWidth + 1 && e.tagName === 'PRE' ||
                     r.right > document.querySelector('main').getBoundingClientRect().right + 2);
}).map(e => 'wide output: ' + (e.textContent || e.src || '').trim().slice(0, 60))"""
AXE = """axe.run({resultTypes: ['violations']}).then(r => r.violations
  .filter(v => ['critical', 'serious', 'moderate'].includes(v.impact))
  .map(v => v.id + ' ' + v.nodes.length + ': ' + v.nodes.slice(0, 3).map(n => n.target.join(' ')).join(' | ')))"""
# The type of the book's figures has 11 points (book.mplstyle); a phone has to show it with 12 pixels, 11 at the least.
ON_A_PHONE = """(() => {
  const found = [], short = e => e.textContent.trim().slice(0, 40), all = s => [...document.querySelectorAll(s)].filter(e => e.checkVisibility());
  const rects = node => { const r = document.createRange(), text = node.data; r.setStart(node, text.length - text.trimStart().length); r.setEnd(node, text.trimEnd().length); return [...r.getClientRects()]; };
  for (const code of all('main div.sourceCode pre')) {
    if (code.scrollWidth > code.clientWidth + 1 || code.parentElement.scrollWidth > code.parentElement.clientWidth + 1) found.push('code does not wrap: ' + short(code));
    const button = code.querySelector('.code-copy-button')?.getBoundingClientRect(), text = document.createTreeWalker(code.querySelector('code'), 4);
    if (button) while (text.nextNode()) if (text.currentNode.data.trim() && rects(text.currentNode).some(r =>
      r.right > button.left + 1 && r.left < button.right - 1 && r.bottom > button.top + 1 && r.top < button.bottom - 1)) { found.push('the copy button stands on code: ' + short(code)); break; }
  }
  for (const image of all('main .cell-output-display img'))
    if (image.naturalWidth && 11 * 96 / 72 * image.getBoundingClientRect().width / image.naturalWidth < 11) found.push('labels too small: ' + image.src.split('/').pop());
  for (const cell of all('main table td, main table th')) {
    const text = document.createTreeWalker(cell, 4);
    while (text.nextNode()) for (const word of text.currentNode.data.matchAll(/[\\w.=]{2,}/g)) {
      const r = document.createRange();
      r.setStart(text.currentNode, word.index); r.setEnd(text.currentNode, word.index + word[0].length);
      if (new Set([...r.getClientRects()].map(r => Math.round(r.top))).size > 1) { found.push('a word in a table is broken: ' + word[0]); break; }
    }
  }
  if (document.querySelectorAll('#TOC > ul a').length > 2 && !all('.book-contents > summary').length) found.push('no contents');
  return found;
})()"""
RAW_FLOATS = """[...document.querySelectorAll('.cell-output pre')].map(e => e.textContent.match(/\\d\\.\\d{10,}/)?.[0]).filter(Boolean)
  .map(number => 'raw float in an output: ' + number)"""
HERE_IN_SIDEBAR = """(() => {
  const here = document.querySelector('#quarto-sidebar a.sidebar-link.active')?.getBoundingClientRect(), frame = document.querySelector('#quarto-sidebar')?.getBoundingClientRect();
  return !here || !frame || here.top >= frame.top && here.bottom <= Math.min(frame.bottom, innerHeight);
})()"""


TOUCHING = """(() => {
  const title = document.querySelector('#title-block-header h1')?.getBoundingClientRect(), next = document.querySelector('#title-block-header .description')?.getBoundingClientRect();
  return title && next && next.top - title.bottom < 5 ? ['title and description touch'] : [];
})()"""
# Many systems have no font with the tables that formulas need: brackets stand apart from their letters.
GAPS = """[...document.querySelectorAll('main math')].some(e => e.checkVisibility()) && ![...document.fonts].some(font => font.family.includes('STIX') && font.status === 'loaded')
  ? ['formulas are not in their font'] : [...document.querySelectorAll('main math mi + mo')].filter(e => e.textContent === '(' && e.checkVisibility()).map(e => [e, parseFloat(getComputedStyle(e).fontSize)])
  .filter(([e, em]) => e.getBoundingClientRect().left - e.previousElementSibling.getBoundingClientRect().right > 0.15 * em || e.getBoundingClientRect().width > 0.7 * em)
  .map(([e]) => 'a gap in a formula: ' + e.previousElementSibling.textContent + e.textContent)"""
MENU = """(() => {
  const bar = document.getElementById('quarto-sidebar'), names = [...bar?.querySelectorAll('.menu-text') || []].filter(e => e.checkVisibility()), found = [];
  const room = innerHeight - document.getElementById('quarto-header').getBoundingClientRect().bottom;
  if (names.length && names.at(-1).getBoundingClientRect().bottom - names[0].getBoundingClientRect().top > room) found.push('the menu is longer than the window');
  for (const name of names) if (name.closest('.sidebar-section') && name.getClientRects().length > 1) found.push('two lines in the menu: ' + name.textContent);
  return found;
})()"""
LIT = """(image => image && getComputedStyle(image).colorScheme !== 'dark' ? ['figures are told that this page is light'] : [])(document.querySelector('main .cell-output-display img'))"""


def deep_link(path):
    "The place of a heading in the middle of a page."
    places = re.findall(r'<section id="([^"]+)" class="level[23]', path.read_text(encoding="utf-8"))
    return f"#{places[len(places) // 2]}" if places else ""


def faults_of_page(browser, address, width, dark, axe):
    "What a reader with this window and theme would stumble over on a page, whose address may lead to a place in it."
    browser.size(width, 900, dark=dark)
    browser.call("Page.navigate", url="about:blank")
    browser.call("Page.navigate", url=address)
    browser.until("document.readyState === 'complete' && location.protocol === 'http:'")
    browser.run("new Promise(done => setTimeout(done, 300))")
    if place := urldefrag(address)[1]:
        heading = f"document.getElementById({json.dumps(unquote(place))}).querySelector('h2, h3').getBoundingClientRect().top"
        under = browser.run(f"document.getElementById('quarto-header').getBoundingClientRect().bottom - {heading}")
        if under > 0: yield f"the heading of {place} is {under:.0f} px under the bar"
    # The first figure to try takes the place of a still one as soon as it is seen.
    browser.run("document.querySelector('.try')?.scrollIntoView({behavior: 'instant'})")
    browser.until("(box => !box || box.dataset.ready === '' || box.textContent.includes('not in this copy'))(document.querySelector('.try'))")
    # The last image of a long page is drawn when it is seen: measure as if all had been.
    browser.run("Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode().catch(() => 0); })).then(() => 0)")
    if not dark: yield from browser.run(TOUCHING)
    if width < 600:
        if (wide := browser.run("document.documentElement.scrollWidth")) > width: yield f"pans sideways: {wide} px wide"
        if not dark: yield from browser.run(ON_A_PHONE)
    else:
        yield from browser.run(WIDE_OUTPUTS)
        for script in (LIT,) if dark else (RAW_FLOATS, GAPS, MENU): yield from browser.run(script)
        if not browser.run(HERE_IN_SIDEBAR): yield "the sidebar does not show where one is"
    if axe:
        browser.run(axe + "; 0")
        yield from browser.run(AXE)


def weight(browser, site, address):
    "Bytes on the wire of a page that is read to its end, and the files with theirs."
    browser.size(1440, 900)
    browser.call("Network.setCacheDisabled", cacheDisabled=True)
    browser.call("Page.navigate", url="about:blank")
    before = len(browser.requested)
    browser.call("Page.navigate", url=address)
    browser.until("document.readyState === 'complete' && location.protocol === 'http:'")
    browser.run("(async () => { for (let y = 0; y < document.body.scrollHeight; y += 800) { scrollTo({top: y, behavior: 'instant'});"
                "await new Promise(done => requestAnimationFrame(() => setTimeout(done, 20))); } })()")
    browser.run("Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode().catch(() => 0); })).then(() => 0)")
    browser.call("Network.setCacheDisabled", cacheDisabled=False)
    sizes = {}
    for url in browser.requested[before:]:
        path = site / unquote(urlparse(url).path).removeprefix(SERVED_UNDER)
        if path.is_file(): sizes[path.name] = len(gzip.compress(path.read_bytes(), 6)) if path.suffix in COMPRESSED else path.stat().st_size
    return sizes


def heavy_pages(browser, site, address, pages):
    "Pages that weigh too much, with what weighs most."
    for page in pages:
        sizes = weight(browser, site, address + page)
        if sum(sizes.values()) > MOST_OF_PAGE.get(page, MOST_BYTES):
            most = ", ".join(f"{name} {size / 1e3:.0f}" for name, size in sorted(sizes.items(), key=lambda part: -part[1])[:4])
            yield f"{page} weighs {sum(sizes.values()) / 1e3:.0f} kB: {most}"


def same(found, wanted, what):
    "A fault if the two differ."
    if found != wanted: yield f"{what}: {found!r}, should be {wanted!r}"


def faults_of_ways(browser, address):
    "The ways through a chapter by keyboard: skip link, contents, chapters on a phone, and the switch of the code."
    def shown(selector): return browser.run(f"[...document.querySelectorAll({json.dumps(selector)})].some(e => e.checkVisibility() && e.getBoundingClientRect().width > 1)")

    def opened(width, dark=False, page="lr_finder.html"):
        browser.size(width, 900, dark)
        browser.call("Page.navigate", url="about:blank")
        browser.call("Page.navigate", url=address + page)
        browser.until("document.readyState === 'complete' && location.protocol === 'http:'")

    for width in (390, 1440):
        opened(width)
        browser.press("Tab")
        focus = "(() => { const e = document.activeElement, r = e.getBoundingClientRect(); return [e.hash, r.top >= 0 && r.left >= 0 && r.height > 10]; })()"
        yield from same(browser.run(focus), ["#quarto-document-content", True], f"at {width} px the first Tab leads to")
        browser.press("Enter")
        browser.press("Tab")
        yield from same(browser.run("!!document.activeElement?.closest('main')"), True, "after the skip link the focus is in the text")
    parts = "[...document.querySelectorAll('#quarto-sidebar .sidebar-item-section > div > .sidebar-item-text')]"
    open_parts = parts + ".map(e => [e.role, e.ariaExpanded])"
    for page in ("index.html", "lr_finder.html"):
        opened(1440, page=page)
        yield from same(browser.run(open_parts), [["button", "true"], *[["button", "false"]] * 3], f"{page}: parts of the menu that are open")
        browser.run("[...document.querySelectorAll('#quarto-sidebar a[href$=\\'gradcam.html\\']')].at(-1).focus()")
        browser.press("Tab")
        yield from same(browser.run(f"document.activeElement === {parts}[1]"), True, f"{page}: Tab leads to the next part")
        for key, wanted in (("Enter", True), (" ", False)):
            browser.press(key)
            browser.run("new Promise(done => setTimeout(done, 800))")
            yield from same([shown("#quarto-sidebar a[href$='explorer.html']"), browser.run(open_parts)[1][1]], [wanted, str(wanted).lower()], f"{page}: a part of the menu by keyboard")
    opened(390)
    browser.run("document.querySelector('#quarto-header [data-bs-toggle=collapse]').focus()")
    browser.press("Enter")
    browser.run("new Promise(done => setTimeout(done, 800))")
    yield from same(shown("#quarto-sidebar a[href$='gradcam.html']"), True, "the first menu button of a phone shows the chapters")
    cut = "[...document.querySelectorAll('#quarto-sidebar .menu-text')].filter(e => e.getBoundingClientRect().right > innerWidth).length"
    yield from same(browser.run(cut), 0, "chapters whose name is cut on a phone")
    low = "[...document.querySelectorAll('#quarto-sidebar a.sidebar-link, #quarto-sidebar .sidebar-item-toggle')].filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 39).length"
    yield from same(browser.run(f"[{low}, document.getElementById('quarto-sidebar').getBoundingClientRect().width]"), [0, 390], "rows of the chapters too low for a thumb, and their width on a phone")
    yield from same(browser.run("getComputedStyle(document.querySelector('.navbar-toggler-icon')).backgroundImage.includes('18 18')"), True, "the button that closes the chapters is a cross")
    opened(390)
    if not shown(".book-contents > summary"): yield "there are no contents on a phone"
    else:
        yield from same(shown(".book-contents a"), False, "the contents are folded")
        browser.run("document.querySelector('.book-contents > summary').focus()")
        browser.press("Enter")
        yield from same(shown(".book-contents a"), True, "Enter opens the contents")
        browser.run("[...document.querySelectorAll('.book-contents a')].at(-1).focus()")
        browser.press("Enter")
        browser.run("new Promise(done => setTimeout(done, 100))")
        yield from same([shown(".book-contents a"), browser.run("location.hash.length > 1 && scrollY > 1000")], [False, True], "a link of the contents leads there and folds them")
    for width, dark in ((390, False), (390, True), (1440, False), (1440, True)):
        opened(width, dark)
        switch, code, stays = "document.querySelector('.book-code')", "main .cell-code, main details.code-fold", "main figure img"
        if not browser.run(f"!!{switch}"):
            yield "there is no switch for the code"
            return
        yield from same([shown(code), shown(stays), browser.run(switch + ".getAttribute('aria-checked')")], [True, True, "true"], "at first there is code")
        if width == 390: browser.run(switch + ".focus()"); browser.press(" ")
        else: browser.click(switch)
        state = [shown(code), shown(stays), shown("main .cell-output-stdout"), browser.run(switch + ".getAttribute('aria-checked')")]
        yield from same(state, [False, True, True, "false"], "without code")
        opened(width, dark)
        yield from same([shown(code), shown(stays)], [False, True], "remembered")
        browser.call("Emulation.setEmulatedMedia", media="print")
        yield from same([shown(code), shown(stays)], [False, True], "on paper without code")
        browser.call("Emulation.setEmulatedMedia", media="")
        yield from same(browser.run("[...document.querySelectorAll('head > script')].some(s => s.textContent.includes('book-code'))"), True, "known before anything is drawn")
        browser.run(switch + ".click()")
        yield from same(shown(code), True, "back with code")


def faults_of_places(browser, address):
    "What has to stand where one sees it first: the buttons of the front page, and the explorer on its page, as wide as there is room."
    def opened(page, width, ready):
        browser.size(width, 900)
        browser.call("Page.navigate", url=address + page)
        browser.until(f"document.readyState === 'complete' && {ready}")

    for width in (390, 1440):
        opened("index.html", width, "true")
        links = browser.run("[...document.querySelectorAll('main a')].filter(a => a.checkVisibility() && a.getBoundingClientRect().bottom <= 900).map(a => a.getAttribute('href').split('/').pop())")
        yield from same([page for page in ("data.html", "explorer.html", "your_picture.html", "train_here.html") if page not in links], [], f"at {width} px the first screen of the front page leads not to")
        frame = "document.querySelector('main iframe')"
        opened("explorer.html", width, f"{frame}.contentDocument?.documentElement?.dataset.ready === ''")
        tiles = f"[...{frame}.contentDocument.querySelectorAll('.tile')]"
        top, row = browser.run(f"[{frame}.getBoundingClientRect().top, {tiles}.filter(e => e.offsetTop === {tiles}[0].offsetTop).length]")
        before = browser.run(f"[...document.querySelectorAll('main .cell-code, main figure')].filter(e => !e.contains({frame}) && e.compareDocumentPosition({frame}) & 4).length")
        yield from same([top < 600, row >= (3 if width < 600 else 6), before], [True, True, 0], f"at {width} px the explorer is high up, its mistakes fill the width, nothing stands before it")
        if width > 600: continue
        for move in (f"{tiles}[0].scrollIntoView({{block: 'center', behavior: 'instant'}})", "scrollBy({top: 200, behavior: 'instant'})",
                     "scrollBy({top: -200, behavior: 'instant'})", f"{tiles}[0].click()"):  # up again: the bar of the page comes back
            browser.run(f"{move}; new Promise(done => setTimeout(done, 500))")
        hit = f"((c, f) => document.elementFromPoint(f.x + c.x + c.width / 2, f.y + c.y + c.height / 2) === {frame})({frame}.contentDocument.querySelector('#close').getBoundingClientRect(), {frame}.getBoundingClientRect())"
        yield from same(browser.run(hit), True, "on a phone the button that closes the explorer's larger view can be pressed")


def first_hit(browser, address, words):
    "Where the search of the front page leads first."
    browser.size(1440, 900)
    browser.call("Page.navigate", url=address + "index.html")
    browser.until("document.readyState === 'complete' && document.querySelector('#quarto-search button, .aa-Input')")
    browser.run("document.querySelector('#quarto-search button').click()")
    browser.until("document.querySelector('.aa-Input')")
    # Typed again while nothing comes: the index is fetched when the search opens.
    typed = ("(() => { const i = document.querySelector('.aa-Input'); i.focus(); "
             f"i.value = {json.dumps(words)}; i.dispatchEvent(new Event('input', {{bubbles: true}})); ")
    came = typed + "return new Promise(done => setTimeout(() => done(!!document.querySelector('.search-result-link')), 1000)); })()"
    if not any(browser.run(came) for _ in range(60)): return "nothing"
    return Path(urlparse(browser.run("document.querySelector('.search-result-link').href")).path).stem


def faults_in_browser(site, program, axe):
    "Everything that only a browser sees, page by page."
    server, address = served(site)
    pages = sorted(path.name for path in site.glob("*.html"))
    with Browser(program) as browser:
        for page in pages:
            for width, dark in ((390, False), (390, True), (1440, False), (1440, True)):
                for fault in faults_of_page(browser, address + page + deep_link(site / page), width, dark, axe):
                    yield f"{page} at {width} px{', dark' * dark}: {fault}"
        yield from faults_of_ways(browser, address)
        yield from faults_of_places(browser, address)
        yield from heavy_pages(browser, site, address, pages)
        for words, wanted in SEARCHES.items():
            if (found := first_hit(browser, address, words)) != wanted:
                yield f"a search for {words!r} leads to {found} first, should to {wanted}"
        yield from book_parts.faults_of_words(browser, address)
        foreign = sorted({url for url in browser.requested if not url.startswith(address)})
        yield from (f"asks {url}" for url in foreign)
    server.shutdown()


def faults(site):
    "All faults of a built site, a line each; and what could not be looked at."
    notebooks = [path.stem for path in (HERE / "nbs").glob("*.ipynb")]
    missing = [name for name in notebooks if not (site / f"{page_name(name)}.html").exists()]
    found = [f"not built: {name}" for name in missing]
    found += [f"dead link: {link}" for link in dead_links(site)] + [*raw_links(site), *raw_markup(site)]
    found += [*book_parts.faults(site), *without_card(site), *without_skip_link(site), *tex_in_search(site)]
    program, axe = find_browser(), axe_source()
    if program: found += faults_in_browser(site, program, axe)
    skipped = ["no browser: widths, requests and search"] * (not program) + ["no axe-core"] * (not axe)
    return found, skipped


def main():
    site = build(Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "_docs").resolve())
    print(f"The site is in {site}.")


if __name__ == "__main__":
    main()
