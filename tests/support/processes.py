"""Commands run as their users run them: in a process of their own."""

import json
import os
import shutil
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


def shell_environment(folder):
    """The commands of this environment on the path, nothing of the user's, no network for models."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "GENEKB_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "HOME": str(folder)}


def done(command, folder, **more):
    found = subprocess.run(
        command,
        cwd=folder,
        env=shell_environment(folder) | more,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def has_in_r(*packages):
    """Whether R is here, with some packages."""
    if shutil.which("Rscript") is None:
        return False
    names = ", ".join(f'"{name}"' for name in packages)
    asked = ["Rscript", "-e", f"q(status = !all(sapply(c({names}), requireNamespace, quietly = TRUE)))"]
    return subprocess.run(asked, capture_output=True, check=False, timeout=120).returncode == 0
