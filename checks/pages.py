"""What the checks of the pages that compute in the browser share: how such a page is opened, alone or in the built site, and left."""
import argparse
import base64
import json
import tempfile
from pathlib import Path

from browser import Browser, find_browser
from explorer import check_names, check_targets, same
from site_check import AXE, axe_source, served

SIZES = ((390, 844), (1440, 900))


def keep_pictures(browser, folder, name=""):
    "Pictures of the page at both widths and in both themes."
    folder.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES:
        for dark in (False, True):
            browser.size(width, height, dark)
            browser.run("new Promise(done => setTimeout(done, 500))")
            picture = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
            (folder / f"{name}{width}-{'dark' if dark else 'light'}.png").write_bytes(base64.b64decode(picture))


def check_screen(browser, app):
    "Nothing sticks out, what one presses is large enough, everything has a name."
    axe = axe_source()
    for width, dark in ((390, False), (390, True), (1440, False), (1440, True)):
        browser.size(width, 844, dark)
        browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        browser.until("document.getAnimations().every(one => !(one instanceof CSSTransition))")  # colours that are on their way to those of the theme
        same(browser.run(f"document.documentElement.scrollWidth <= {width}"), True, f"nothing sticks out at {width} px")
        check_targets(browser, f"at {width} px", app)
        if axe:
            browser.run(axe + "; 0")
            same(browser.run(AXE), [], f"axe at {width} px{', dark' * dark}")
    check_names(browser, app)


def check_in_browser(what, build_alone, about, *checks):
    """The command of such a check: each of `checks`, a function and the flags of its browser, as `check(browser, folder, address, screenshots)` on a page that is served.

    `build_alone(folder)` makes the page without the book and says what it lacks; `about` is the JSON file that says so in a built site.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--screenshots", type=Path, help="a folder for them")
    parser.add_argument("--site", type=Path, help="the folder of the built site; else the page is made alone")
    words, program = parser.parse_args(), find_browser()
    if program is None:
        print("skipped: neither Chromium nor Chrome is installed")
        return
    with tempfile.TemporaryDirectory() as aside:
        folder = words.site or Path(aside)
        missing = build_alone(folder) if words.site is None else json.loads((folder / "web" / about).read_text()).get("missing")
        if missing:
            print(f"skipped: {what} {missing}")
            return
        server, address = served(folder)
        for check, *flags in checks:
            with Browser(program, wait=600, flags=flags) as browser: check(browser, folder, address, words.screenshots)
        server.shutdown()
    print(f"{what} works in {Path(program).name}")
