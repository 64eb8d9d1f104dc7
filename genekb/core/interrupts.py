"""Notes on an interrupt of what a job leaves behind; which of several processes is interrupted."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def note_on_interrupt(what: str) -> Iterator[None]:
    """Add to a KeyboardInterrupt what of the work inside is kept, and how to go on.

    It travels as a note of the exception (PEP 678): a notebook shows it below the traceback, a command prints it.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(what)
        raise


def leave_interrupts_to_parent() -> None:
    """Ignore Ctrl-C, which a terminal sends to workers too: the process that started them ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def sigterm_handler_kept() -> Iterator[None]:
    """Put the handler of SIGTERM back, which ``ray.init`` replaces by one that exits with the signal's number."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as end:
        if end.code == signal.SIGTERM:
            raise KeyboardInterrupt from end
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
