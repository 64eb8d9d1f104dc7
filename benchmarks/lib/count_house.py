"""Count the size of the code: files, lines, docstrings, bodies, complexity, folders, and the files that one run enters.

    python -m benchmarks.lib.count_house [--no-run] [--list]

Prints one Markdown table. The last rows trace ``genekb build`` of the demo table and ``cellmodel cluster`` of the demo
cells, which takes a minute; the store is in a temporary folder. ``--list`` names the files that the runs enter.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

ROOT = Path(__file__).parents[2]
PACKAGES = ("genekb", "cellmodel", "cli/genekb_cellmodel_cli")
ENDINGS = {".py", ".j2", ".js"}  # what is written by hand and run
TRACED = """
import sys
from pathlib import Path
root, program = Path(sys.argv[1]), sys.argv[2]
entered = set()
def note(frame, event, argument):
    name = frame.f_code.co_filename
    if name.startswith(str(root)) and name not in entered:
        while frame.f_back is not None and frame.f_code.co_name != "<module>":
            frame = frame.f_back
        if frame.f_code.co_filename == "<string>":  # called by the command, not while a module is imported
            entered.add(name)
sys.argv = sys.argv[2:]
main = __import__(f"genekb_cellmodel_cli.{program}", fromlist=["main"]).main
sys.setprofile(note)
try:
    main()
except SystemExit as end:
    assert not end.code, end
sys.setprofile(None)
inside = {Path(name).relative_to(root) for name in entered if name.startswith(str(root))}
print(*sorted(str(path) for path in inside if path.parts[0] in {"genekb", "cellmodel", "cli"}), sep="\\n")
"""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def product_files() -> list[Path]:
    """Files of the packages that are run, in order."""
    return [
        path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*"))
        if path.suffix in ENDINGS and "__pycache__" not in path.parts
    ]


def n_lines(path: Path) -> int:
    """Count the lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def docstring_lines(node: ast.AST) -> int:
    """Lines of the docstring of a module, class or function."""
    body = getattr(node, "body", None)
    if not isinstance(body, list) or not body or not isinstance(body[0], ast.Expr):
        return 0
    first = body[0].value
    return (
        first.end_lineno - first.lineno + 1 if isinstance(first, ast.Constant) and isinstance(first.value, str) else 0
    )


def body_lines(function: Function) -> int:
    """Lines of a function below its docstring, from its first statement to its last."""
    body = function.body[1:] if docstring_lines(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def complexities() -> list[int]:
    """Complexity of each function, as the linter counts it."""
    options = ("--select", "C901", "--config", "lint.mccabe.max-complexity=0", "--exit-zero", "--output-format", "json")
    command = [sys.executable, "-m", "ruff", "check", *options, *PACKAGES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [int(re.search(r"\((\d+) > 0\)", fault["message"])[1]) for fault in json.loads(done.stdout)]


def folders(files: list[Path]) -> Counter[Path]:
    """Entries of each folder: its files, and its folders that hold some."""
    entries = {path for path in files if path.name != "__init__.py"}
    for path in files:
        entries |= {parent for parent in path.parents if ROOT in parent.parents}
    return Counter(entry.parent for entry in entries)


def entered() -> dict[str, list[str]]:
    """Files of the packages that two commands enter, by command."""
    from cellmodel.tl._demo import find_demo_cells

    with tempfile.TemporaryDirectory() as folder:
        cells, out = str(find_demo_cells()), f"{folder}/out.h5ad"
        runs = {
            "genekb build": ("--model", "wcp-32", "--name", "demo@1"),
            "cellmodel cluster": (cells, "--kb", "demo@1", "--n-clusters", "8", "-o", out),
        }
        settings = {"capture_output": True, "text": True, "env": os.environ | {"GENEKB_HOME": folder}}
        found = {}
        for command, arguments in runs.items():
            traced = [sys.executable, "-c", TRACED, str(ROOT), *command.split(), *arguments]
            done = subprocess.run(traced, check=True, **settings)
            found[command] = [line for line in done.stdout.splitlines() if line.endswith(".py")]
    return found


def rows() -> Iterator[tuple[str, str]]:
    """Give what is counted, and the count."""
    files = product_files()
    code = [path for path in files if path.suffix == ".py"]
    nodes = [node for path in code for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    functions = [node for node in nodes if isinstance(node, Function)]
    bodies = [body_lines(function) for function in functions]
    ((largest, n_entries),) = folders(files).most_common(1)
    yield "lines of Python", f"{sum(map(n_lines, code)):,}"
    yield "of them docstrings", f"{sum(map(docstring_lines, nodes)):,}"
    yield "lines of templates and scripts", f"{sum(map(n_lines, set(files) - set(code))):,}"
    yield "functions", f"{len(functions):,}"
    yield "body, 90th percentile", f"{np.percentile(bodies, 90):.0f} lines"
    yield "longest body", f"{max(bodies)} lines"
    yield "highest complexity of a function", f"{max(complexities())}"
    yield "longest Python file", f"{max(map(n_lines, code))} lines"
    yield "largest folder", f"{largest.relative_to(ROOT)}, {n_entries} entries"


def of_packages(paths: Iterable[str]) -> dict[str, list[str]]:
    """Files by the package that they belong to: the product, then each package of it."""
    every = sorted(paths)
    of_clustering = [path for path in every if path.startswith(("cellmodel/", "cli/"))]
    return {
        "product": every,
        "cellmodel and cli": of_clustering,
        "genekb": [path for path in every if path not in of_clustering],
    }


def main(
    *,
    run: Annotated[bool, typer.Option(help="Trace a run too.")] = True,
    names: Annotated[bool, typer.Option("--list", help="List the files that the runs enter.")] = False,
) -> None:
    """Print the table."""
    counts = list(rows())
    code = (path.relative_to(ROOT).as_posix() for path in product_files() if path.suffix == ".py")
    counts += [(f"Python files of {name}", f"{len(files)}") for name, files in of_packages(code).items()]
    found = [(command, *each) for command, on in (entered() if run else {}).items() for each in of_packages(on).items()]
    counts += [(f"files of {name} that `{command}` enters", f"{len(files)}") for command, name, files in found]
    typer.echo("| what | count |\n| --- | --- |")
    for what, count in counts:
        typer.echo(f"| {what} | {count} |")
    for command, name, files in found if names else ():
        if name != "product":
            typer.echo("\n".join(["", f"{command}, {name}:", *files]))


if __name__ == "__main__":
    typer.run(main)
