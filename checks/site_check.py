"""Build the site and walk it in a real browser: `python checks/site_check.py [FOLDER]` builds into FOLDER, `make docs` into _docs."""
import functools
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
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

from PIL import Image, ImageDraw, ImageFont

from browser import Browser, find_browser
from picture_app import build_app
from readme import HERE, page_name, picture, settings
from train_app import build_train
from try_app import build_tries

SERVED_UNDER = settings()["doc_baseurl"] + "/"
MOST_BYTES = 3_000_000  # of a page with its pictures
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
    if missing := build_app(out / "web"): print(f"The page of your own picture comes without its network: it {missing}.")
    if missing := build_train(out / "web"): print(f"The page on which one trains comes without its graphs: it {missing}.")
    for name, missing in build_tries(out / "web").items(): print(f"The figure to try {name} comes without its data: it {missing}.")
    return out


class Page(HTMLParser):
    "The links and the anchors of a page."
    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value: self.links.append(value)
            if name == "id" or (name == "name" and tag == "a"): self.anchors.add(value)


def dead_links(site):
    "Links to pages, files or places in pages that are not there."
    pages, dead = {path: Page(path) for path in site.rglob("*.html")}, []
    for path, page in pages.items():
        for link in page.links:
            address, anchor = urldefrag(link)
            url = urlparse(address)
            if url.scheme or url.netloc: continue
            # The page for lost addresses names the others by their place on the server.
            base, place = path.parent, unquote(url.path)
            if place.startswith(SERVED_UNDER): base, place = site, place.removeprefix(SERVED_UNDER)
            target = (base / place).resolve() if place else path
            if target.is_dir(): target /= "index.html"
            if not target.exists(): dead.append(f"{path.name}: {link}")
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
                dead.append(f"{path.name}: {link}")
    return dead


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


def heavy_pages(site):
    "Pages that weigh more than MOST_BYTES with the pictures that are theirs."
    for path in site.glob("*.html"):
        pictures = sum(f.stat().st_size for f in (site / f"{path.stem}_files").rglob("*") if f.is_file())
        if (weight := path.stat().st_size + pictures) > MOST_BYTES: yield f"{path.name} weighs {weight / 1e6:.1f} MB"


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
}).map(e => (e.textContent || e.src || '').trim().slice(0, 60))"""
AXE = """axe.run({resultTypes: ['violations']}).then(r => r.violations
  .filter(v => ['critical', 'serious'].includes(v.impact))
  .map(v => v.id + ' ' + v.nodes.length + ': ' + v.nodes.slice(0, 3).map(n => n.target.join(' ')).join(' | ')))"""


def faults_of_page(browser, address, width, dark, axe):
    "What a reader with this window and theme would stumble over on a page."
    browser.size(width, 900, dark=dark)
    browser.call("Page.navigate", url=address)
    browser.until("document.readyState === 'complete'")
    # The last image of a long page is drawn when it is seen: measure as if all had been.
    browser.run("document.querySelectorAll('img').forEach(i => { i.loading = 'eager'; })")
    if width < 600 and (wide := browser.run("document.documentElement.scrollWidth")) > width:
        yield f"pans sideways: {wide} px wide"
    if width > 600: yield from (f"wide output: {text}" for text in browser.run(WIDE_OUTPUTS))
    if axe:
        browser.run(axe + "; 0")
        yield from browser.run(AXE)


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
    browser.until(typed + "return new Promise(done => setTimeout(() => "
                  "done(!!document.querySelector('.search-result-link')), 1000)); })()")
    return Path(urlparse(browser.run("document.querySelector('.search-result-link').href")).path).stem


def faults_in_browser(site, program, axe):
    "Everything that only a browser sees, page by page."
    server, address = served(site)
    pages = sorted(path.name for path in site.glob("*.html"))
    with Browser(program) as browser:
        for page in pages:
            for width, dark in ((390, False), (1440, False), (1440, True)):
                for fault in faults_of_page(browser, address + page, width, dark, axe):
                    yield f"{page} at {width} px{', dark' * dark}: {fault}"
        for words, wanted in SEARCHES.items():
            if (found := first_hit(browser, address, words)) != wanted:
                yield f"a search for {words!r} leads to {found} first, should to {wanted}"
        foreign = sorted({url for url in browser.requested if not url.startswith(address)})
        yield from (f"asks {url}" for url in foreign)
    server.shutdown()


def faults(site):
    "All faults of a built site, a line each; and what could not be looked at."
    notebooks = [path.stem for path in (HERE / "nbs").glob("*.ipynb")]
    missing = [name for name in notebooks if not (site / f"{page_name(name)}.html").exists()]
    found = [f"not built: {name}" for name in missing]
    found += [f"dead link: {link}" for link in dead_links(site)] + [*raw_links(site), *raw_markup(site), *heavy_pages(site)]
    program, axe = find_browser(), axe_source()
    if program: found += faults_in_browser(site, program, axe)
    skipped = ["no browser: widths, requests and search"] * (not program) + ["no axe-core"] * (not axe)
    return found, skipped


def main():
    site = build(Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "_docs").resolve())
    print(f"The site is in {site}.")


if __name__ == "__main__":
    main()
