"""A real browser without a window, driven through the Chrome DevTools protocol."""
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import websocket  # of websocket-client

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-extensions",
         "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "--remote-debugging-port=0",
         "--remote-allow-origins=*")
KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, ""), " ": (32, " "), "ArrowLeft": (37, ""), "ArrowUp": (38, ""),
        "ArrowRight": (39, ""), "ArrowDown": (40, "")}


def find_browser():
    "The program to start: what CHROME names, else Chromium or Chrome on PATH, else None."
    return os.environ.get("CHROME") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    "One tab. What it and its workers log and ask the network for is kept in `logged` and `requested`; `workers` are their sessions."
    def __init__(self, program, wait=300, flags=()):  # seconds; a busy machine may need many
        self.home, self.wait = tempfile.mkdtemp(), wait
        self.process = subprocess.Popen([program, *FLAGS, *flags, f"--user-data-dir={self.home}", "about:blank"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.logged, self.requested, self.workers, self.number, self.socket = [], [], [], 0, None
        try: self._connect()
        except BaseException: self.close(); raise

    def __enter__(self): return self
    def __exit__(self, *_): self.close()

    def close(self):
        if self.socket:
            try: self.call("Browser.close")
            except (OSError, websocket.WebSocketException): pass  # it may be gone before it answers
            self.socket.close()
        try: self.process.wait(10)
        except subprocess.TimeoutExpired: self.process.kill(); self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def _connect(self):
        told, until = Path(self.home) / "DevToolsActivePort", time.monotonic() + self.wait
        while not (told.is_file() and len(told.read_text().split()) == 2):
            if self.process.poll() is not None: raise RuntimeError(f"the browser ended with {self.process.returncode}")
            if time.monotonic() > until: raise TimeoutError(f"no browser after {self.wait} s")
            time.sleep(0.1)
        port, path = told.read_text().split()
        self.socket = websocket.create_connection(f"ws://127.0.0.1:{port}{path}", timeout=self.wait)
        self.session = None
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"): self.call(f"{domain}.enable")
        self.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)

    def _send(self, method, session, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        self.socket.send(json.dumps(message | ({"sessionId": session} if session else {})))

    def call(self, method, session=None, **parameters):
        "Send a command, to the page or to the session of a worker, and wait for its answer; events that come in between are kept."
        self._send(method, session or self.session, **parameters)
        number = self.number
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == number:
                if "error" in answer: raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._keep(answer)

    def _keep(self, event):
        kind, content = event.get("method"), event.get("params", {})
        if kind == "Target.attachedToTarget" and content["targetInfo"]["type"] == "worker":  # it waits until it is heard
            self.workers.append(content["sessionId"])
            for method in ("Runtime.enable", "Log.enable", "Network.enable", "Runtime.runIfWaitingForDebugger"): self._send(method, content["sessionId"])
        if kind == "Target.detachedFromTarget" and content["sessionId"] in self.workers: self.workers.remove(content["sessionId"])
        if kind == "Runtime.exceptionThrown": self.logged.append(content["exceptionDetails"])
        if kind == "Runtime.consoleAPICalled" and content["type"] in ("error", "warning", "assert"):
            self.logged.append(content["args"])
        if kind == "Log.entryAdded" and content["entry"]["level"] in ("error", "warning"):
            self.logged.append(content["entry"])
        if kind == "Network.requestWillBeSent" and not content["request"]["url"].startswith(("data:", "about:")):
            self.requested.append(content["request"]["url"])

    def run(self, script, session=None):
        "The value of a JavaScript expression in the page or in a worker; a promise is waited for."
        done = self.call("Runtime.evaluate", session, expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done: raise RuntimeError(f"{script}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def until(self, script):
        "Wait until an expression is true."
        end = time.monotonic() + self.wait
        while not self.run(script):
            if time.monotonic() > end: raise TimeoutError(f"still not true after {self.wait} s: {script}")
            time.sleep(0.05)

    def size(self, width, height, dark=False, scale=1):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                  mobile=width < 600)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)

    def open(self, path, ready="true"):
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        self.until("document.readyState === 'complete'")
        self.until(ready)

    def press(self, key):
        "Press and release a key, as a keyboard does."
        code, text = KEYS[key]
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **event, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def click(self, element, x=0.5, y=0.5):
        "Click with the mouse into an element (an expression), at a share of its width and height."
        place = self.run(f"(() => {{ const e = {element}; e.scrollIntoView({{block: 'center', behavior: 'instant'}});"
                         "const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; })()")
        event = {"x": place[0] + x * place[2], "y": place[1] + y * place[3], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"): self.call("Input.dispatchMouseEvent", type=kind, **event)
