"""Commands run as their users run them: in a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(command, *args, plugins=""):
    """Start a command; ``plugins`` is a folder of packages beside those that are installed."""
    code = f"from genekb_cellmodel_cli.{command} import main; main()"
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, (ROOT, ROOT / "cli", plugins))), COLUMNS="200")
    environment.pop("GENEKB_HOME", None)
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def call(command, *args, plugins=""):
    process = start(command, *args, plugins=plugins)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def call_json(command, *args, plugins=""):
    code, out, err = call(command, *args, "--json", plugins=plugins)
    assert code == 0, err
    return json.loads(out)
