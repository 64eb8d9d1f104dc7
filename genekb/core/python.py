"""Functions that people call from Python: errors in its words, one name for the seed, messages, a bar in notebooks.

A command and its function do the same work, whose errors name options. :func:`for_python` puts what they say into
Python's terms, takes ``seed`` for ``random_state``, says which argument was probably meant where one is unknown, shows
messages at the verbosity of scanpy where that is loaded, and progress in a notebook.
"""

import inspect
import logging
import re
import shlex
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
_COMMAND: Final = re.compile(r"`(genekb|cellmodel) (?:model )?([a-z][a-z-]*)([^`]*)`")
# an option, and what follows it where that is a value: a number, a name in capitals, or what is always one
_VALUE: Final = r"[\w.-]+-[0-9a-f]{12}|[0-9a-f]{16}|\d[\d.]*|[A-Z][A-Z_@,=\[\]]*\b|auto|none|given|ids|orthologs|text"
_OPTION: Final = re.compile(rf"--([a-z][a-z0-9-]*)(?: ({_VALUE})(?![\w/]))?")
_MODULES: Final = {"genekb": "gk", "cellmodel": "cm.tl"}
_ELSEWHERE: Final = {
    "cm.tl.report": "cm.report",
    "cm.tl.view": "cm.view",
    "cm.tl.demo": "cm.demo",
    "cm.tl.plot": "cm.pl",
    "cm.tl.doctor": "gk.doctor",
    "gk.list": "gk.list_stores",
    "gk.import": "gk.import_vectors",
    **{f"cm.tl.{name}": f"cm.bench.{name}" for name in ("bench", "eval", "perturb_eval")},
}
SHELL_ALONE: Final = {  # commands whose function is a method of a store, or has a name of two words
    "genekb": {"info", "resolve", "search", "sql"},
    "cellmodel": {"export", "graph", "mcp"},
}
_LEVELS: Final = (logging.ERROR, logging.WARNING, logging.INFO, logging.INFO, logging.DEBUG)  # by scanpy's verbosity


def for_python(function: Callable[P, Result]) -> Callable[P, Result]:
    """Let a function speak to people who call it from Python, see this module."""
    flags = {name: isinstance(one.default, bool) for name, one in inspect.signature(function).parameters.items()}

    @wraps(function)
    def called(*args: P.args, **options: P.kwargs) -> Result:
        if from_shell.get():  # whose words are those of the options
            return function(*args, **options)
        _check_names(function.__name__, options, flags)
        with _scanpys_verbosity(), show_progress():
            try:
                return function(*args, **options)
            except Exception as error:
                is_ours = type(error).__module__.split(".")[0] in _OURS
                if (is_ours or type(error) is ValueError) and error.args:  # that of arguments which do not go together
                    error.args = (in_python(str(error.args[0]), flags), *error.args[1:])
                raise

    return called


def _check_names(function: str, options: dict[str, Any], known: Mapping[str, bool]) -> None:
    """Take ``seed`` for ``random_state``; say of an unknown argument which was probably meant."""
    if "seed" in options and "seed" not in known and "random_state" in known:
        if "random_state" in options:
            raise TypeError(f"{function}() got random_state and seed, two names of one argument; give random_state")
        options["random_state"] = options.pop("seed")
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known)
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{hint}")


def in_python(message: str, flags: Mapping[str, bool]) -> str:
    """Write a message for callers from Python: ``--key-added`` as ``key_added=``, a command as its function.

    ``flags``: arguments of the function that was called, and whether each is a flag; other options stay as they are.
    """
    message = re.sub(r"--([a-z-]+) \(((\w+)(?:=\w+)?)\)", r"\2", message)  # some name both
    return _OPTION.sub(lambda found: _argument(found, flags), _COMMAND.sub(_call, message))


def _call(found: re.Match[str]) -> str:
    if found[2] in SHELL_ALONE[found[1]]:
        return found[0]
    name = f"{_MODULES[found[1]]}.{found[2].replace('-', '_')}"
    words = shlex.split(found[3].strip().removesuffix("...").replace("'", ""))
    values, options = list[str](), list[str]()
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            values.append(_quoted(word))
        elif words and not words[0].startswith("--"):
            options.append(f"{_name(word[2:])}={_quoted(words.pop(0))}")
        else:
            options.append(f"{_name(word[2:])}=True")
    call = _ELSEWHERE.get(name, name)
    return f"`{call}({', '.join([*values, *options])})`" if values or options else f"`{call}`"


def _argument(found: re.Match[str], flags: Mapping[str, bool]) -> str:
    name = _name(found[1])
    if name not in flags:
        return found[0]
    rest = "" if found[2] is None else f" {found[2]}"
    if flags[name]:
        return f"{name}=True{rest}"
    return f"{name}={_quoted(found[2])}" if found[2] else f"{name}="


def _name(option: str) -> str:
    return option.replace("-", "_")


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[\d.]+|[A-Z]+", value) else f'"{value}"'


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
