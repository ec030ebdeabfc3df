"""What the front page weighs and what links to the site show: `python checks/front_page.py FOLDER` of the built site."""
import gzip
import io
import re
import sys
from pathlib import Path
from threading import Thread
from http.server import ThreadingHTTPServer
from functools import partial

from PIL import Image

from browser import Browser, find_browser
from site_check import Quiet, SERVED_UNDER

MOST_ON_THE_WIRE = 300_000  # bytes, with their heads, before one clicks
TEXTS = {".html", ".css", ".js", ".json", ".svg"}


class Compressed(Quiet):
    "A server that sends texts as most do: compressed."
    def do_GET(self):
        path = Path(self.translate_path(self.path.split("?")[0]))
        if path.suffix not in TEXTS or not path.is_file() or "gzip" not in self.headers.get("Accept-Encoding", ""): return super().do_GET()
        body = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        for name, value in (("Content-Type", self.guess_type(str(path))), ("Content-Encoding", "gzip"), ("Content-Length", str(len(body)))): self.send_header(name, value)
        self.end_headers()
        self.copyfile(io.BytesIO(body), self.wfile)


def weights(site, program, page="index.html"):
    "What the browser has received for a page before anybody clicks: {address: bytes}."
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Compressed, directory=site))
    Thread(target=server.serve_forever, daemon=True).start()
    with Browser(program) as browser:
        browser.size(1440, 900)
        browser.call("Page.navigate", url=f"http://127.0.0.1:{server.server_port}{SERVED_UNDER}{page}")
        browser.until("document.readyState === 'complete'")
        browser.until("!document.querySelector('#try-front') || document.querySelector('#try-front').dataset.ready === ''")
        browser.run("new Promise(done => setTimeout(done, 1000))")
        received = browser.run("[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].map(e => [e.name, e.transferSize])")
    server.shutdown()
    return {name.split(SERVED_UNDER, 1)[1]: size for name, size in received}


def without_card(site):
    "Pages that show something else than the card, or nothing, where links to them are shown."
    for path in sorted(site.glob("*.html")):
        text = path.read_text(encoding="utf-8")
        for name in ("og:image", "twitter:image"):
            found = re.findall(rf'<meta (?:property|name)="{name}" content="([^"]*)"', text)
            if len(found) != 1 or not found[0].endswith("/site/card.png"): yield f"{path.name} has as {name} {found or 'nothing'}"


def faults(site):
    found = list(without_card(site))
    card = site / "site" / "card.png"
    if not card.exists() or Image.open(card).size != (1200, 630): found.append("the card is not there in 1200 × 630 pixels")
    if (program := find_browser()) is None: return found
    received = weights(site, program)
    if (sum_ := sum(received.values())) > MOST_ON_THE_WIRE:
        heavy = ", ".join(f"{name} {size}" for name, size in sorted(received.items(), key=lambda one: -one[1])[:5])
        found.append(f"the front page weighs {sum_} bytes on the wire: {heavy}")
    if asked := [name for name in received if name.startswith("web/") and not name.startswith("web/try-")]: found.append(f"the front page asks for {asked}")
    return found


if __name__ == "__main__":
    if found := faults(Path(sys.argv[1])): sys.exit("\n".join(found))
