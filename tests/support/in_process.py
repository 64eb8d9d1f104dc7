"""Commands run in the process of the tests: processes.py starts a process for each, which takes seconds."""

import importlib
import logging
import sys
import warnings
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """How a command ended, what it printed, and which Python warnings it let through."""

    code: int
    out: str
    err: str
    warnings: tuple[str, ...]


def call_here(arguments, capsys, monkeypatch):
    """Run a command line, its first word ``cellmodel`` or ``genekb``, as it would run in a process of its own."""
    main = importlib.import_module(f"genekb_cellmodel_cli.{arguments[0]}").main
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("GENEKB_HOME", raising=False)
    capsys.readouterr()
    root, own = logging.getLogger(), [logging.getLogger(name) for name in ("genekb", "cellmodel")]
    handlers, levels = root.handlers[:], [logger.level for logger in (root, *own)]
    code = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        except Exception:  # noqa: BLE001 - as Python ends a process
            sys.excepthook(*sys.exc_info())
            code = 1
        finally:
            root.handlers[:] = handlers
            for logger, level in zip((root, *own), levels, strict=True):
                logger.setLevel(level)
    printed = capsys.readouterr()
    return Outcome(code, printed.out, printed.err, tuple(str(warning.message) for warning in caught))
