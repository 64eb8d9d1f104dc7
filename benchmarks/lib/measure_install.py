"""What an installation takes: packages and megabytes of a fresh environment, plain and with extras.

    python -m benchmarks.lib.measure_install [--extras hub,encode,cells,all]

Builds a wheel of this repository and, for each set of extras, makes a virtual environment and installs into it with the
pins of constraints.txt. Prints one Markdown table: installed packages, and the size of site-packages, both with the pip
(and setuptools) that every virtual environment has; MB are 2**20 bytes. Python compiles a module when it is first
imported, pip all of them while it installs: the last column is the size with that byte code. It exits with 1 if a plain
installation is above its limits.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parents[2]
MOST_MB = 350
MOST_PACKAGES = 45


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """What one environment holds."""

    n_packages: int
    mb: float


def build_wheel(folder: Path) -> Path:
    """Build a wheel of this repository."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    return next(folder.glob("*.whl"))


def install(wheel: Path, environment: Path, *, extras: str = "") -> Path:
    """Install a wheel with extras into a new environment; give its interpreter."""
    run(sys.executable, "-m", "venv", str(environment))
    python = environment / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "-c", str(ROOT / "constraints.txt")]
    run(*pip, f"{wheel}[{extras}]" if extras else str(wheel))
    return python


def measure(python: Path) -> Size:
    """Count the packages of an environment, and add up its files, each in whole blocks, as ``du`` does."""
    listed = run(str(python), "-m", "pip", "list", "--format", "freeze").splitlines()
    blocks = sum(path.lstat().st_blocks for path in site_packages(python).rglob("*"))
    return Size(n_packages=len(listed), mb=blocks * 512 / 2**20)


def site_packages(python: Path) -> Path:
    """Folder of the packages of an environment."""
    return next(python.parents[1].glob("lib/python*/site-packages"))


def run(*command: str) -> str:
    """Run a command and give what it prints; its own complaint ends this program."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    return done.stdout


def main(
    extras: Annotated[str, typer.Option(help="Sets of extras, parted by commas; + joins extras of one set.")] = (
        "hub,encode,cells,all"
    ),
) -> None:
    """Install each set into an environment of its own, and print the table."""
    with tempfile.TemporaryDirectory() as name:
        wheel = build_wheel(Path(name))
        typer.echo("| pip install | packages | MB | MB with byte code |\n| --- | --- | --- | --- |")
        for number, chosen in enumerate(["", *filter(None, extras.split(","))]):
            joined = chosen.replace("+", ",")
            python = install(wheel, Path(name) / str(number), extras=joined)
            size = measure(python)
            subprocess.run(
                [str(python), "-m", "compileall", "-q", site_packages(python)], capture_output=True, check=False
            )
            what = f"genekb-cellmodel[{joined}]" if joined else "genekb-cellmodel"
            typer.echo(f"| `{what}` | {size.n_packages} | {size.mb:,.0f} | {measure(python).mb:,.0f} |")
            if not chosen:
                is_light = size.mb <= MOST_MB and size.n_packages <= MOST_PACKAGES
    sys.exit(0 if is_light else 1)


if __name__ == "__main__":
    typer.run(main)
