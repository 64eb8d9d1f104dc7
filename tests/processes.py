"""Commands run as their users run them: in a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def start(command, *args):
    code = f"from genekb_cellmodel_cli.{command} import main; main()"
    environment = dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'cli'}", COLUMNS="200")
    environment.pop("GENEKB_HOME", None)
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def call(command, *args):
    process = start(command, *args)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def call_json(command, *args):
    code, out, err = call(command, *args, "--json")
    assert code == 0, err
    return json.loads(out)
