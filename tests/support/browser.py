"""A headless Chromium for tests, driven over its own pipe: real pointer and keys, screenshots, console, requests."""

import base64
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from cellmodel.pl.report.collect.data import ReportData
from cellmodel.pl.report.page.render import write_report

SWITCHES = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-sync "
    "disable-component-update hide-scrollbars remote-debugging-pipe"
)
DEADLINE_S = 20
NOISE = ("data:", "blob:")
BOX = ".getBoundingClientRect()"


class Page:
    """One open page. What its console says, throws and asks for is kept in ``log`` and ``requests``."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._out, self._in = to_browser, from_browser
        self._rest, self._last, self._session = b"", 0, None
        self.log: list[str] = []
        self.requests: list[str] = []

    def send(self, method: str, **params: object) -> dict:
        """Send one command of the DevTools protocol and wait for its answer."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer)

    def _receive(self) -> dict:
        while b"\0" not in self._rest:
            read = os.read(self._in, 1 << 16)
            assert read, "the browser is gone"
            self._rest += read
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.consoleAPICalled":
                self.log.append(str([argument.get("value") for argument in params["args"]]))
            case "Runtime.exceptionThrown":
                self.log.append(json.dumps(params["exceptionDetails"]))
            case "Log.entryAdded":
                self.log.append(params["entry"]["text"])
            case "Network.requestWillBeSent" if not params["request"]["url"].startswith(NOISE):
                self.requests.append(params["request"]["url"])

    def open(self, address: str, *, downloads: Path) -> None:
        """Open an address; what the page saves goes into ``downloads``."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        self.send("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && document.documentElement.dataset.ready === 'true'")

    def look(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Set the size of the window, in CSS pixels, and the color scheme that the user prefers."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")

    def run(self, script: str) -> object:
        """Value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression holds in the page."""
        end = time.monotonic() + DEADLINE_S
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never true: {condition}"

    def point(self, x: float, y: float) -> None:
        """Move the mouse to a place of the window."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{found}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        self.settle()
        x, y = self.run(f"(({{left, top, width, height}}) => [left + width / 2, top + height / 2])({found}{BOX})")
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def wheel(self, x: float, y: float, *, delta: float) -> None:
        """Turn the wheel."""
        self.send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=delta)

    def press(self, key: str, *, text: str = "") -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text if kind == "keyDown" else "")

    def type(self, text: str) -> None:
        """Put text where the caret is."""
        self.send("Input.insertText", text=text)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Save what is seen, or the whole page, as PNG."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))


def open_page(path: Path, folder: Path) -> AbstractContextManager[Page]:
    """Open a file in headless Chromium; see :func:`browser_at`."""
    return browser_at(path.as_uri(), folder)


@contextmanager
def browser_at(address: str, folder: Path) -> Iterator[Page]:
    """Open headless Chromium at an address, its profile and downloads in ``folder``; skip where there is none."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium on PATH")
    commands_in, commands_out = os.pipe()
    answers_in, answers_out = os.pipe()
    arguments = [*(f"--{switch}" for switch in SWITCHES.split()), f"--user-data-dir={folder / 'profile'}"]
    shell = (
        f'exec 3<&{commands_in} 4>&{answers_out}; exec "$0" "$@"'  # Chromium reads 3 and writes 4; dash knows fds to 9
    )
    process = subprocess.Popen(
        ["bash", "-c", shell, browser, *arguments],
        pass_fds=(commands_in, answers_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(commands_in)
    os.close(answers_out)
    page = Page(commands_out, answers_in)
    try:
        page.open(address, downloads=folder / "downloads")
        yield page
    finally:
        os.close(commands_out)
        os.close(answers_in)
        process.terminate()
        process.wait(timeout=DEADLINE_S)


@contextmanager
def open_report(data: ReportData, folder: Path) -> Iterator[Page]:
    """Write a report into ``folder`` and open it, 1,280 pixels wide; it may log nothing and ask for no other file."""
    path = folder / "report.html"
    write_report(data, path)
    with open_page(path, folder) as page:
        page.look(width=1280)
        yield page
        assert page.log == []
        assert page.requests == [path.as_uri()]


def wait_for(file: Path) -> None:
    """Wait until the browser has saved a file."""
    end = time.monotonic() + DEADLINE_S
    while not file.exists():
        assert time.monotonic() < end, f"never saved: {file}"
        threading.Event().wait(0.01)
