"""The installed programs: an interrupt ends them in one line even while they still load."""

import sys
from importlib import import_module


def genekb() -> None:
    """Run `genekb`."""
    _run("genekb")


def cellmodel() -> None:
    """Run `cellmodel`."""
    _run("cellmodel")


def _run(name: str) -> None:
    try:
        main = import_module(f"genekb_cellmodel_cli.{name}").main
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted; nothing has been done yet\n")
        sys.exit(130)
    main()
