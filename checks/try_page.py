"""The figures to try in a real browser, by keyboard and by pointer: `python checks/try_page.py [NAME …]`, with --site on the built site.

What all share is checked here; what each shows, by `check` in its module in checks/tries.
"""
import argparse
import tempfile
from pathlib import Path

from browser import Browser, find_browser
from explorer import check_names, check_targets, same
from pages import keep_pictures, SIZES
from readme import page_name
from site_check import axe_source, served
from try_app import build_alone, build_tries, modules

MOST_BYTES = 100_000  # of a script
AXE = """axe.run(BOX, {resultTypes: ['violations']}).then(r => r.violations
  .filter(v => v.impact !== 'minor').map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.target.join(' ')).join(' | ')))"""


def check_common(browser, name, still, axe):
    "At both widths and in both themes nothing sticks out, what one presses is large enough, and everything has a name."
    box = f"document.querySelector('#try-{name}')"
    for width, height in SIZES:
        for dark in (False, True):
            browser.size(width, height, dark)
            browser.run("new Promise(done => setTimeout(done, 200))")
            same(browser.run(f"[document.documentElement.scrollWidth <= {width}, {box}.scrollWidth <= {box}.clientWidth + 1]"), [True, True], f"nothing sticks out at {width} px")
            small = f"[...{box}.querySelectorAll('svg text, p, button, label, td, th, figcaption')].filter(t => t.checkVisibility() && parseFloat(getComputedStyle(t).fontSize) < 12).length"
            same(browser.run(small), 0, f"words below 12 px at {width} px")
            check_targets(browser, f"at {width} px", box)
            if axe:
                browser.run(axe + "; 0")
                same(browser.run(AXE.replace("BOX", box)), [], f"axe at {width} px{', dark' * dark}")
    check_names(browser, box)
    same(browser.run(f"[...{box}.querySelectorAll('canvas, svg:not([aria-hidden])')].filter(c => c.checkVisibility()).every(c => c.getAttribute('aria-label'))"), True, "names of the drawings")
    same(browser.run(f"!!{box}.querySelector('[aria-live=polite]')"), True, "what is said is announced")
    if still: same(browser.run(f"document.querySelector('#{still}').checkVisibility()"), False, "the still figure is hidden")
    browser.call("Emulation.setEmulatedMedia", media="print")
    same(browser.run(f"{box}.checkVisibility()"), False, "not on paper")
    if still: same(browser.run(f"document.querySelector('#{still}').checkVisibility()"), True, "the still figure is on paper")
    browser.call("Emulation.setEmulatedMedia", media="")


def open_page(browser, address, name):
    browser.call("Page.navigate", url=address)
    browser.until("document.readyState === 'complete'")
    browser.run(f"document.querySelector('#try-{name}').scrollIntoView({{behavior: 'instant'}})")


def check_one(browser, address, name, module, screenshots=None):
    still, box = getattr(module, "STILL", None), f"document.querySelector('#try-{name}')"
    browser.size(1440, 900)
    browser.call("Network.setBlockedURLs", urls=[f"*try-{name}.json*"])
    open_page(browser, address, name)
    browser.until(f"{box}.textContent.includes('could not be loaded')")
    if still: same(browser.run(f"document.querySelector('#{still}').checkVisibility()"), True, "without data the still figure stays")
    browser.call("Network.setBlockedURLs", urls=[])
    browser.logged.clear()  # the browser's own word about that
    open_page(browser, address, name)
    browser.until(f"{box}.dataset.ready === ''")
    module.check(browser)
    check_common(browser, name, still, axe_source())
    if screenshots: keep_pictures(browser, screenshots, f"{name}-")
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    open_page(browser, address, name)
    same(browser.run(f"[...{box}.querySelectorAll('noscript')].every(n => n.checkVisibility())"), True, "without a script it says so")
    if still: same(browser.run(f"document.querySelector('#{still}').checkVisibility()"), True, "without a script the still figure stays")
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    same(browser.logged, [], "logged as error or warning")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="which; else all")
    parser.add_argument("--screenshots", type=Path, help="a folder for them")
    parser.add_argument("--site", type=Path, help="the folder of the built site; else pages are made alone")
    words, program = parser.parse_args(), find_browser()
    if program is None:
        print("skipped: neither Chromium nor Chrome is installed")
        return
    chosen = {name: module for name, module in modules().items() if not words.names or name in words.names}
    with tempfile.TemporaryDirectory() as aside:
        folder = words.site or Path(aside)
        missing = build_tries(folder / "web", chosen) if words.site else build_alone(folder, chosen)
        if missing: print("skipped: " + "; ".join(f"{name} {reason}" for name, reason in missing.items()))
        server, address = served(folder)
        with Browser(program) as browser:
            for name, module in chosen.items():
                if name in missing: continue
                if (weight := (folder / "site" / f"try_{name}.js").stat().st_size) > MOST_BYTES: raise AssertionError(f"try_{name}.js has {weight} bytes")
                page = f"{page_name(module.NOTEBOOK) if words.site else f'try-{name}'}.html"
                try: check_one(browser, address + page, name, module, words.screenshots)
                except Exception as fault: raise AssertionError(f"{name}: {fault}") from fault
            same([url for url in browser.requested if not url.startswith(address)], [], "asked of another server")
        server.shutdown()
    print(f"to try: {', '.join(name for name in chosen if name not in missing)}")


if __name__ == "__main__": main()
