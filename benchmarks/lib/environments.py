"""Environments of other programs, made from the package registries and kept; what runs in them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

TORCH: Final = "torch==2.13.0"  # first, so that what follows finds it and brings no other
INTERPRETERS: Final = {".py": sys.executable, ".mjs": "node", ".R": "Rscript"}


def run(command: Sequence[str | Path], folder: Path) -> str:
    """Run a command in a folder; what it prints. Raises ``CalledProcessError``."""
    return subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=True).stdout


def prepare(script: Path, packages: Sequence[str], folder: Path) -> list[str]:
    """Make an environment, or take the one that is there; how scripts are started in it.

    Raises ``CalledProcessError`` or ``OSError`` if it cannot be had.
    """
    found = shutil.which(INTERPRETERS[script.suffix])
    if found is None:
        raise FileNotFoundError(f"{INTERPRETERS[script.suffix]} is not installed")
    installed = folder / "packages.txt"
    listed = set(installed.read_text().split("\n")) if installed.is_file() else set()
    if not listed >= set(packages):
        folder.mkdir(parents=True, exist_ok=True)
        install = [*("npm", "install", "--no-audit", "--no-fund"), *packages]
        if script.suffix == ".py":
            run([found, "-m", "venv", folder], folder)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--no-compile"]
            run([*pip, TORCH], folder)
            install = [*pip, *packages]
        run(install, folder)
        installed.write_text("\n".join(sorted(listed | set(packages))))
    return [str(folder / "bin" / "python"), "-P", "-W", "ignore"] if script.suffix == ".py" else [found]


def version(script: Path, packages: Sequence[str], folder: Path) -> str:
    """Version of the first package, or of R."""
    if not packages:
        return run(["Rscript", "-e", "cat(as.character(getRversion()))"], folder.parent).strip()
    name = packages[0].split("==")[0]
    if script.suffix == ".mjs":
        return str(json.loads((folder / "node_modules" / name / "package.json").read_text())["version"])
    ask = f"from importlib.metadata import version; print(version({name!r}))"
    return run([folder / "bin" / "python", "-c", ask], folder).strip()


def reason(error: Exception) -> str:
    """Give the last line of what a program or an installation printed when it failed."""
    lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
