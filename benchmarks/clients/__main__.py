"""Run other programs on what `genekb export` writes: each in an environment of its own, one real step with it.

GENEKB_HOME=HOME GENEKB_TEST_DATA=DATA python -m benchmarks.clients --kb human --environments DIR --output results

Environments are made from the package registries and kept. A program that cannot be had is skipped, and the table says
why; one that fails ends the run with 1. No model or data set is downloaded.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anndata
import numpy as np
import scanpy as sc
from platformdirs import user_cache_path

from benchmarks.lib.protocol import command_line, data_folder, finish, markdown

PROGRAMS: Final = Path(__file__).parent / "programs"
CELLS_EACH: Final = 40  # of each perturbation: a step is shown, no model is trained to its end
TORCH: Final = "torch==2.13.0"  # first, so that what follows finds it and brings no other
SPECIAL: Final = ("<pad>", "<cls>", "<eoc>")
COMMAND: Final = [sys.executable, "-c", "from genekb_cellmodel_cli.genekb import main; main()"]
COLUMNS: Final = ("program", "version", "`genekb export --kb human` …", "s", "what it did")


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """A program, what is installed for it, and the export that it loads.

    Parameters
    ----------
    program
        File in ``programs``, run where the inputs and the export lie; the last line that it prints says what it did.
    packages
        Of the registry that its interpreter has; the first one's version is shown. Bounds beside it are those without
        which it does not start.
    environment
        Folder; programs may share one.
    """

    name: str
    program: str
    packages: tuple[str, ...]
    environment: str
    export: str


CLIENTS: Final = (
    Client(name="scGPT's vocabulary", program="scgpt.py", packages=("torch", "safetensors"), environment="sentence",
           export="--order vocab.json -o vocab.safetensors"),
    Client(name="GEARS", program="gears.py", packages=("cell-gears==0.1.2", "torch-geometric", "scipy<1.14"),
           environment="gears", export="--for gears --genes perturbed.txt -o graph.csv"),
    Client(name="Scouter", program="scouter.py", packages=("scouter-learn==0.1.10",), environment="scouter",
           export="--for scouter --genes perturbed.txt -o vectors.csv"),
    Client(name="helical", program="helical.py", packages=("helical==2.2.0",), environment="helical",
           export="--for helical --genes genes.txt --allow-missing -o helical.json"),
    Client(name="State", program="state.py", packages=("arc-state==0.11.1", "cell-load==0.10.4"), environment="state",
           export="--genes perturbed.txt -o perturbed.npz"),
    Client(name="AssayBench", program="assaybench.py", packages=("assaybench==0.2.1",), environment="assaybench",
           export="--for genept --genes genes.txt --allow-missing -o genept.json"),
    Client(name="pertpy", program="pertpy.py", packages=("pertpy==1.0.3", "statsmodels<0.15"), environment="pertpy",
           export="--for pertpy --genes perturbed.txt -o space.h5ad"),
    Client(name="sentence-transformers", program="sentence.py", packages=("sentence-transformers",),
           environment="sentence", export="--order vocab.json -o vocab.npz"),
    Client(name="DuckDB in Node", program="duckdb.mjs", packages=("@duckdb/node-api",), environment="node",
           export="--encoder wcp -o genes.duckdb"),
    Client(name="hyparquet", program="parquet.mjs", packages=("hyparquet", "hyparquet-compressors", "apache-arrow"),
           environment="node", export="-o genes.parquet"),
    Client(name="R", program="table.R", packages=(), environment="",
           export="--for scouter --genes genes.txt --allow-missing -o genes.csv"),
)  # fmt: skip


def write_inputs(folder: Path) -> None:
    """Write what the exports and the programs are asked with: a screen, its genes, a vocabulary."""
    adata = anndata.read_h5ad(data_folder() / "perturbseq" / "papalexi_thp1_299.h5ad")
    rng = np.random.default_rng(0)
    perturbed = adata.obs["perturbation"].astype(str).to_numpy()
    rows = [rng.permutation(np.flatnonzero(perturbed == name))[:CELLS_EACH] for name in sorted(set(perturbed))]
    adata = adata[np.sort(np.concatenate(rows))].copy()
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.obs["condition"] = [
        "ctrl" if name == "non-targeting" else f"{name}+ctrl" for name in adata.obs["perturbation"]
    ]
    adata.var["gene_name"] = adata.var_names
    adata.write_h5ad(folder / "cells.h5ad")
    names = sorted(set(perturbed) - {"non-targeting"})
    genes = sorted({*names, *adata.var_names})
    (folder / "perturbed.txt").write_text("\n".join(names) + "\n")
    (folder / "genes.txt").write_text("\n".join(genes) + "\n")
    tokens = [*SPECIAL, *rng.permutation(genes).tolist()]
    (folder / "vocab.json").write_text(json.dumps({token: row for row, token in enumerate(tokens)}))


def prepare(client: Client, root: Path) -> list[str]:
    """Make the environment, or take the one that is there; how its program is started, but for the file."""
    folder, kind = root / client.environment, Path(client.program).suffix
    interpreter = {".py": sys.executable, ".mjs": "node", ".R": "Rscript"}[kind]
    found = shutil.which(interpreter)
    if found is None:
        raise FileNotFoundError(f"{interpreter} is not installed")
    installed = folder / "packages.txt"
    listed = set(installed.read_text().split("\n")) if installed.is_file() else set()
    if not listed >= set(client.packages):
        folder.mkdir(parents=True, exist_ok=True)
        install = [*("npm", "install", "--no-audit", "--no-fund"), *client.packages]
        if kind == ".py":
            run([found, "-m", "venv", folder], folder)
            pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--no-compile"]
            run([*pip, TORCH], folder)
            install = [*pip, *client.packages]
        run(install, folder)
        installed.write_text("\n".join(sorted(listed | set(client.packages))))
    return [str(folder / "bin" / "python"), "-P", "-W", "ignore"] if kind == ".py" else [found]


def version(client: Client, root: Path) -> str:
    """Version of what runs."""
    if not client.packages:
        return run(["Rscript", "-e", "cat(as.character(getRversion()))"], root)
    name, folder = client.packages[0].split("==")[0], root / client.environment
    if client.program.endswith(".mjs"):
        return str(json.loads((folder / "node_modules" / name / "package.json").read_text())["version"])
    ask = f"from importlib.metadata import version; print(version({name!r}))"
    return run([folder / "bin" / "python", "-c", ask], root)


def run(command: Sequence[str | Path], folder: Path) -> str:
    """Run a command in a folder; the last line that it prints. Raises ``CalledProcessError``."""
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=True)
    return (done.stdout.strip().splitlines() or [""])[-1]


def try_client(client: Client, kb: str, work: Path, root: Path) -> dict[str, object]:
    """Export for a program and run it; what the table says of it."""
    row: dict[str, object] = {"program": client.name, "version": "", "export": client.export, "seconds": None}
    try:
        start = prepare(client, root)
    except (subprocess.CalledProcessError, OSError) as error:
        lines = str(getattr(error, "stderr", error)).strip().splitlines()
        return row | {"did": f"skipped: {lines[-1] if lines else error}"}
    row["version"] = version(client, root)
    program = work / client.program  # beside its inputs; Node looks for packages from where the file lies
    shutil.copy(PROGRAMS / client.program, program)
    if program.suffix == ".mjs" and not (work / "node_modules").exists():
        (work / "node_modules").symlink_to(root / client.environment / "node_modules")
    try:
        run([*COMMAND, "export", "--kb", kb, *client.export.split(), "--overwrite"], work)
        started = time.perf_counter()
        did = run([*start, program], work)
    except subprocess.CalledProcessError as error:
        return row | {"did": f"FAILED: {[*error.stderr.strip().splitlines(), ''][-1] or error}"}
    return row | {"seconds": round(time.perf_counter() - started, 1), "did": did}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_line(str(__doc__), with_home=False)
    parser.add_argument("--kb", default="human", help="Store of human genes.")
    parser.add_argument("--environments", type=Path, default=user_cache_path("genekb") / "clients")
    parser.add_argument("--only", nargs="+", help="Programs, by name.")
    given = parser.parse_args(arguments)
    root = given.environments.absolute()
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_inputs(work)
        for client in CLIENTS:
            if given.only is None or client.name in given.only:
                rows.append(try_client(client, given.kb, work, root))
                sys.stderr.write(f"{client.name}: {rows[-1]['did']}\n")
    failed = [f"{row['program']} MISSED" for row in rows if str(row["did"]).startswith("FAILED")]
    shown = [{**row, "export": f"`{row['export']}`"}.values() for row in rows]
    table = markdown(COLUMNS, shown, digits=0)
    return finish(given.output, "clients", rows, lines=["# Clients", "", *table], bars=failed)


if __name__ == "__main__":
    sys.exit(main())
