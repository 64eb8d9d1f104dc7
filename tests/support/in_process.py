"""Commands run in the process of the tests: processes.py starts a process for each, which takes seconds."""

import importlib
import io
import json
import logging
import os
import sys
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch


@dataclass(frozen=True)
class Outcome:
    """How a command ended, what it printed, and which Python warnings it let through."""

    code: int
    out: str
    err: str
    warnings: tuple[str, ...]


def call_here(arguments, capsys, monkeypatch):
    """Run a command line, its first word ``cellmodel`` or ``genekb``, as it would run in a process of its own."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    capsys.readouterr()
    code, caught = _run(arguments)
    printed = capsys.readouterr()
    return Outcome(code, printed.out, printed.err, caught)


def call(command, *args):
    """Give the exit code, stdout and stderr of a command, as ``processes.call`` does."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "excepthook", sys.excepthook):
        code, _ = _run([command, *args])
    return code, *(stream.buffer.getvalue().decode() for stream in (out, err))


def call_json(command, *args):
    code, out, err = call(command, *args, "--json")
    assert code == 0, err
    return json.loads(out)


def _run(arguments):
    main = importlib.import_module(f"genekb_cellmodel_cli.{arguments[0]}").main
    environment = {name: value for name, value in os.environ.items() if name != "GENEKB_HOME"} | {"COLUMNS": "200"}
    with (
        patch.object(sys, "argv", list(map(str, arguments))),
        patch.dict(os.environ, environment, clear=True),
        _same_logging(),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", message="The 'future.infer_string' option")  # of anndata 0.13 with pandas 3.1
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except Exception:  # noqa: BLE001 - as Python ends a process
            sys.excepthook(*sys.exc_info())
            code = 1
    return code, tuple(str(warning.message) for warning in caught)


@contextmanager
def _same_logging():
    """Put back the handlers and levels that a command sets."""
    root, own = logging.getLogger(), [logging.getLogger(name) for name in ("genekb", "cellmodel")]
    handlers, levels = root.handlers[:], [logger.level for logger in (root, *own)]
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for logger, level in zip((root, *own), levels, strict=True):
            logger.setLevel(level)
