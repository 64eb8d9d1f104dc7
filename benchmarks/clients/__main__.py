"""Run other programs on what genekb and cellmodel write: each in an environment of its own, one real step with it.

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

from benchmarks.lib.environments import prepare, reason, run, version
from benchmarks.lib.protocol import command_line, data_folder, finish, markdown

PROGRAMS: Final = Path(__file__).parent / "programs"
CELLS_EACH: Final = 40  # of each perturbation: a step is shown, no model is trained to its end
SPECIAL: Final = ("<pad>", "<cls>", "<eoc>")
COMMAND: Final = "from genekb_cellmodel_cli.{} import main; main()"
COLUMNS: Final = ("program", "version", "command", "s", "what it did")
HELD_OUT: Final = ("CUL3", "IRF1", "JAK2", "STAT1", "STAT2")


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """A program, what is installed for it, and the commands that write what it loads.

    Parameters
    ----------
    program
        File in ``programs``, run where the inputs and the export lie; the last line that it prints says what it did.
    packages
        Of the registry that its interpreter has; the first one's version is shown. Bounds beside it are those without
        which it does not start.
    environment
        Folder; programs may share one.
    commands
        Of which the last is shown; all but `eval` ask the store.
    """

    name: str
    program: str
    packages: tuple[str, ...]
    environment: str
    commands: tuple[str, ...]


CLIENTS: Final = (
    Client(name="scGPT's vocabulary", program="scgpt.py", packages=("torch", "safetensors"), environment="sentence",
           commands=("genekb export --order vocab.json -o vocab.safetensors",)),
    Client(name="GEARS", program="gears.py", packages=("cell-gears==0.1.2", "torch-geometric", "scipy<1.14"),
           environment="gears", commands=("genekb export --for gears --genes perturbed.txt -o graph.csv",)),
    Client(name="Scouter", program="scouter.py", packages=("scouter-learn==0.1.10",), environment="scouter",
           commands=("genekb export --for scouter --genes perturbed.txt -o vectors.csv",)),
    Client(name="helical", program="helical.py", packages=("helical==2.2.0",), environment="helical",
           commands=("genekb export --for helical --genes genes.txt --allow-missing -o helical.json",)),
    Client(name="State", program="state.py", packages=("arc-state==0.11.1", "cell-load==0.10.4"), environment="state",
           commands=("genekb export --genes perturbed.txt -o perturbed.npz",)),
    Client(name="AssayBench", program="assaybench.py", packages=("assaybench==0.2.1",), environment="assaybench",
           commands=("genekb export --for genept --genes genes.txt --allow-missing -o genept.json",)),
    Client(name="pertpy", program="pertpy.py", packages=("pertpy==1.0.3", "statsmodels<0.15"), environment="pertpy",
           commands=("genekb export --for pertpy --genes perturbed.txt -o space.h5ad",)),
    Client(name="sentence-transformers", program="sentence.py", packages=("sentence-transformers",),
           environment="sentence", commands=("genekb export --order vocab.json -o vocab.npz",)),
    Client(name="DuckDB in Node", program="duckdb.mjs", packages=("@duckdb/node-api",), environment="node",
           commands=("genekb export --encoder wcp -o genes.duckdb",)),
    Client(name="hyparquet", program="parquet.mjs", packages=("hyparquet", "hyparquet-compressors", "apache-arrow"),
           environment="node", commands=("genekb export -o genes.parquet",)),
    Client(name="R", program="table.R", packages=(), environment="",
           commands=("genekb export --for scouter --genes genes.txt --allow-missing -o genes.csv",)),
    Client(name="cell-eval", program="cell_eval.py", packages=("cell-eval==0.8.2",), environment="celleval",
           commands=("cellmodel perturb train.h5ad --replicate-key batch --predict held_out.txt -o effects.h5ad",)),
    Client(name="cz-benchmarks", program="cz_benchmarks.py", packages=("cz-benchmarks==0.15.1",), environment="cz",
           commands=("cellmodel cluster species.h5ad --batch-key species -o across.h5ad",
                     "cellmodel cluster batches.h5ad --batch-key batch -o integrated.h5ad",
                     "cellmodel eval integrated.h5ad --truth cell_type --batch-key batch --json > eval.json")),
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
    adata[~adata.obs["perturbation"].isin(HELD_OUT)].write_h5ad(folder / "train.h5ad")
    shutil.copy(data_folder() / "batches" / "segerstolpe_3donors.h5ad", folder / "batches.h5ad")
    shutil.copy(data_folder() / "scrna" / "baron_cross_species_350.h5ad", folder / "species.h5ad")
    (folder / "held_out.txt").write_text("\n".join(HELD_OUT) + "\n")
    names = sorted(set(perturbed) - {"non-targeting"})
    genes = sorted({*names, *adata.var_names})
    (folder / "perturbed.txt").write_text("\n".join(names) + "\n")
    (folder / "genes.txt").write_text("\n".join(genes) + "\n")
    tokens = [*SPECIAL, *rng.permutation(genes).tolist()]
    (folder / "vocab.json").write_text(json.dumps({token: row for row, token in enumerate(tokens)}))


def run_ours(command: str, kb: str, folder: Path) -> None:
    """Run a command of ours, with the store; ``> FILE`` keeps what it prints. Raises ``CalledProcessError``."""
    command, _, kept = command.partition(" > ")
    program, *words = command.split()
    store = [] if words[0] == "eval" else ["--kb", kb]
    printed = run([sys.executable, "-c", COMMAND.format(program), *words, *store], folder)
    if kept:
        (folder / kept).write_text(printed)


def try_client(client: Client, kb: str, work: Path, root: Path) -> dict[str, object]:
    """Write what a program loads and run it; what the table says of it."""
    row: dict[str, object] = {"program": client.name, "version": "", "command": client.commands[-1], "seconds": None}
    script, environment = PROGRAMS / client.program, root / client.environment
    try:
        start = prepare(script, client.packages, environment)
    except (subprocess.CalledProcessError, OSError) as error:
        return row | {"did": f"skipped: {reason(error)}"}
    row["version"] = version(script, client.packages, environment)
    program = shutil.copy(script, work / script.name)  # beside its inputs: Node looks for packages from there
    if script.suffix == ".mjs" and not (work / "node_modules").exists():
        (work / "node_modules").symlink_to(environment / "node_modules")
    try:
        for command in client.commands:
            run_ours(command, kb, work)
        started = time.perf_counter()
        did = run([*start, program], work).strip().splitlines()[-1]
    except subprocess.CalledProcessError as error:
        return row | {"did": f"FAILED: {reason(error)}"}
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
    shown = [{**row, "command": f"`{row['command']}`"}.values() for row in rows]
    table = markdown(COLUMNS, shown, digits=0)
    return finish(given.output, "clients", rows, lines=["# Clients", "", *table], bars=failed)


if __name__ == "__main__":
    sys.exit(main())
