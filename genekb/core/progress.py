"""How much of some work is done: a bar in a terminal or a notebook, a line every half minute in a log.

Work calls :func:`progress`, wherever it is done; what is shown is opened around it with :func:`show_progress`, by
commands and by the functions that people call.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from importlib import import_module
from typing import Any, Final

from genekb.core.messages import printable

Progress = Callable[[str, int, int], None]  # what, done, total; total 0 where that is not known
log = logging.getLogger(__name__)
_WAIT_S: Final = 1.0  # of work before a terminal shows a bar
_REFRESH_S: Final = 0.2  # between two states of a bar
_EVERY_S: Final = 30.0  # between two lines of a log


class _Display:
    """What is being done, and who shows it; threads may report to it."""

    def __init__(self, every_s: float) -> None:
        self.what, self.done, self.total = "", 0, 0
        self.ended = threading.Event()
        self._every_s = every_s
        self._first, self._began = 0, time.monotonic()  # amount done and time when this work began
        self._thread: threading.Thread | None = None

    def report(self, what: str, done: int, total: int) -> None:
        if what != self.what:
            self._first, self._began = done, time.monotonic()
        self.what, self.done, self.total = what, done, total
        if self._thread is None:
            draw = self._draw_bar if sys.stderr.isatty() else self._write_lines
            self._thread = threading.Thread(target=draw, daemon=True)
            self._thread.start()

    def close(self) -> None:
        self.ended.set()
        if self._thread is not None:
            self._thread.join(timeout=_WAIT_S)

    def text(self) -> str:
        """Say what is done, how much of it, at what rate, and what is left."""
        passed = max(time.monotonic() - self._began, 1e-3)
        if not self.total:
            return f"{self.what}: {duration(passed)}"
        line = f"{self.what}: {self.done:,} of {self.total:,} ({self.done / self.total:.0%})"
        rate = (self.done - self._first) / passed
        if not rate:
            return f"{line}, {duration(passed)}"
        return f"{line}, {rate:,.1f} a second, {duration((self.total - self.done) / rate)} left"

    def _draw_bar(self) -> None:
        if self.ended.wait(_WAIT_S):
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (BarColumn(), TextColumn("{task.description}", markup=False))
        with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
            task, shown = bar.add_task("", total=None), ""
            while not self.ended.wait(_REFRESH_S):
                if self.what != shown:
                    bar.remove_task(task)
                    task, shown = bar.add_task("", total=self.total or None), self.what
                bar.update(task, description=printable(self.text()), completed=self.done)

    def _write_lines(self) -> None:
        while not self.ended.wait(self._every_s):
            log.info("%s", self.text())


class _Notebook(_Display):
    """The same in a notebook; it goes with the end of the work."""

    def __init__(self, every_s: float) -> None:
        super().__init__(every_s)
        self._html: Any = import_module("IPython.display")  # which runs this, and is no dependency
        self._handle = self._html.display(self._html.HTML(""), display_id=True)
        self._shown = ("", 0.0)  # what was shown last, and when

    def report(self, what: str, done: int, total: int) -> None:
        self.what, self.done, self.total = what, done, total
        if what == self._shown[0] and time.monotonic() - self._shown[1] < _REFRESH_S:
            return
        self._shown = (what, time.monotonic())
        how_much = f' value="{done}" max="{total}"' if total else ""
        text = f"{escape(what)}: {done:,} of {total:,}" if total else escape(what)
        self._handle.update(self._html.HTML(f"<progress{how_much}></progress> {text}"))

    def close(self) -> None:
        self.ended.set()
        self._handle.update(self._html.HTML(""))


_open: list[_Display] = []  # one, while something is shown


def progress(what: str, done: int, total: int) -> None:
    """Report how much of some work is done; ``total`` 0 where that is not known. Nothing where nobody shows it."""
    if _open and not _open[0].ended.is_set():
        _open[0].report(what, done, total)


@contextmanager
def show_progress(*, every_s: float = _EVERY_S) -> Iterator[None]:
    """Show what is reported inside: a bar in a notebook or a terminal, else a line of the log every some seconds."""
    if _open:
        yield
        return
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    _open.append(_Notebook(every_s) if hasattr(shell, "kernel") else _Display(every_s))
    try:
        yield
    finally:
        _open.pop().close()


def end_progress() -> None:
    """Take away what is shown, for results are printed now."""
    if _open:
        _open[0].close()


def duration(seconds: float) -> str:
    """Write a time as people say it: 40 s, 12 min, 3.5 h."""
    if seconds < 100:  # noqa: PLR2004 - up to here seconds are easier to read than minutes
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004 - 100 minutes
