"""Functions that people call from Python: one name for the seed, unknown arguments, messages, a bar in notebooks.

:func:`for_python` takes ``seed`` for ``random_state``, says which argument was probably meant where one is unknown,
shows messages at the verbosity of scanpy where that is loaded, and progress in a notebook.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from genekb.core.messages import did_you_mean, from_shell
from genekb.core.progress import show_progress

P = ParamSpec("P")
Result = TypeVar("Result")
_OURS: Final = ("genekb", "cellmodel")
_LEVELS: Final = (logging.ERROR, logging.WARNING, logging.INFO, logging.INFO, logging.DEBUG)  # by scanpy's verbosity


def for_python(function: Callable[P, Result]) -> Callable[P, Result]:
    """Let a function speak to people who call it from Python, see this module."""
    known = inspect.signature(function).parameters

    @wraps(function)
    def called(*args: P.args, **options: P.kwargs) -> Result:
        if from_shell.get():  # which does this in its own way
            return function(*args, **options)
        _check_names(function.__name__, options, known)
        with _scanpys_verbosity(), show_progress():
            return function(*args, **options)

    return called


def _check_names(function: str, options: dict[str, Any], known: Mapping[str, object]) -> None:
    """Take ``seed`` for ``random_state``; say of an unknown argument which was probably meant."""
    if "seed" in options and "seed" not in known and "random_state" in known:
        if "random_state" in options:
            raise TypeError(f"{function}() got random_state and seed, two names of one argument; give random_state")
        options["random_state"] = options.pop("seed")
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known)
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{hint}")


@contextmanager
def _scanpys_verbosity() -> Iterator[None]:
    """Show messages as scanpy shows its own, where it is loaded; it is never imported, and settings are put back."""
    settings = getattr(sys.modules.get("scanpy"), "settings", None)
    loggers = [logging.getLogger(name) for name in _OURS]
    if settings is None or any(logger.level for logger in loggers):
        yield
        return
    level = _LEVELS[min(int(settings.verbosity), len(_LEVELS) - 1)]
    handler = logging.StreamHandler(settings.logfile)
    handler.setFormatter(logging.Formatter("%(message)s"))
    is_shown = logging.getLogger().hasHandlers()  # by whoever set up the log of this program
    for logger in loggers:
        logger.setLevel(level)
        if not is_shown:
            logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.setLevel(logging.NOTSET)
            logger.removeHandler(handler)
