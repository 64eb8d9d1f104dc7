"""Ctrl-C, SIGTERM and a closed terminal end a command in one way: what is done is kept, one line says how to go on."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Final, Self

from genekb_cellmodel_cli.app.output import note, print_traceback

INTERRUPTED: Final = 130  # for SIGTERM too: whoever starts commands has to know one number
_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
_SAME_S: Final = 1.0  # signals so close together are one: `timeout` sends two
_LONGEST_END_S: Final = 10.0  # for threads and exit handlers, after the line has been printed
_KEPT: Final = "every file that was written is whole; run the same command again"


class Interruption:
    """While a command runs, signals raise KeyboardInterrupt; a second one, a second later, ends it at once.

    Ending at once does no harm to files: they are written so that even SIGKILL leaves them whole. A signal that is
    ignored (nohup, a job in the background) stays ignored, and a handler that is not Python's own stays in place.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: float | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)):
                if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
                    self._before[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        is_ending = isinstance(error, SystemExit) and error.code == INTERRUPTED
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if is_ending else handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            raise KeyboardInterrupt
        if now - self._first > _SAME_S:
            self._say(_KEPT)
            os._exit(INTERRUPTED)

    def end(self, error: BaseException, *, is_debug: bool = False) -> None:
        """Exit with 130 and a line on stderr if an interrupt is behind an error; else return.

        Libraries turn KeyboardInterrupt into errors of their own, so any error after a signal is taken for one.
        """
        code = error.code if isinstance(error, SystemExit) else None
        is_interrupt = isinstance(error, KeyboardInterrupt) or code == INTERRUPTED
        has_finished = isinstance(error, SystemExit) and not code
        if not is_interrupt and (self._first is None or has_finished):
            return
        if is_debug:
            print_traceback(type(error), error, error.__traceback__)
        self._say("; ".join(_notes(error)) or _KEPT)
        ending = threading.Timer(_LONGEST_END_S, os._exit, (INTERRUPTED,))
        ending.daemon = True
        ending.start()
        raise SystemExit(INTERRUPTED) from error

    def _say(self, what: str) -> None:
        with suppress(OSError, ValueError):  # a terminal that was closed takes no line
            note(f"{self._name}: interrupted; {what}")


def _notes(error: BaseException | None) -> Iterator[str]:
    """Give what was noted on the interrupts behind an error, see :mod:`genekb.core.resources`."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            yield from getattr(error, "__notes__", ())
        error = error.__cause__ or error.__context__
