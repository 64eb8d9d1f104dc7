"""Commands that ``robust/kills.py`` kills, the folders they start from, and what is wrong with one after a fault."""

import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

N_CELLS, N_GENES, N_TYPES = 150, 300, 5
PAUSE_S = 0.02  # after every 16 KB of the slow link
STORE = ("demo@1", "--home", "home")
KB = ("--kb", "demo@1", "--home", "home")
BUILD = ("build", "--source", "genes-1.tsv", "--home", "home", "--model", "hash-256", "--name", "demo@1")
CLUSTER = ("cluster", "cells.h5ad", *KB, "--n-clusters", "5", "--recipe", "pca-kmeans")  # quick: files are the matter
FIRST = (*CLUSTER, "--seed", "1", "-o", "out.h5ad", "--report", "report.html", "--save-model", "model")
MANIFEST = "manifest.json"
Snapshot = dict[str, str]  # path: SHA-256 of the content
_UNITS = re.compile(r"(home/stores/[^/]+/[0-9a-f]{64}|shared/[0-9a-f]{64}|model|out\.zarr)/")  # whole, or not at all
_CHANGING = re.compile(r"(^|/)(\.cache/|[^/]*\.lock$|download\.json$)")  # caches, locks
_TEMPORARY = re.compile(r"(^|/)\.[^/]*(part|building|pulling|removing|work)|\.part(\.json)?($|/)")
PLAIN = ("cluster", "cells.h5ad", "--knowledge", "none", "--n-clusters", "5", "--recipe", "pca-kmeans")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A command, and those that are run before it."""

    name: str
    args: tuple[str, ...]  # program and arguments; ``{url}`` is the server on loopback
    before: tuple[tuple[str, ...], ...] = ()  # whose results are inputs, and have to stay as they are


GENEKB = (
    Job(name="build", args=("genekb", *BUILD, "--model", "wcp-64", "--model", "random-256")),
    Job(name="build-folder", args=("genekb", *BUILD[:5], "--model", "tiny-bert", "--name", "demo@1")),
    Job(name="encode", args=("genekb", "encode", *STORE, "--model", "wcp-32"), before=(("genekb", *BUILD),)),
    Job(
        name="update",
        args=("genekb", "update", *STORE, "--source", "genes-2.tsv", "--name", "demo@2"),
        before=(("genekb", *BUILD),),
    ),
    Job(
        name="import",
        args=("genekb", "encode", *STORE, "--vectors", "vectors.tsv", "--column", "symbol", "--name", "mine"),
        before=(("genekb", *BUILD),),
    ),
    Job(name="export", args=("genekb", "export", *KB, "-o", "vectors.h5ad"), before=(("genekb", *BUILD),)),
    Job(name="download", args=("genekb", "download", "ncbi", "--mirror", "{url}ncbi/")),
    Job(name="pull", args=("genekb", "pull", "{url}store", "--home", "home")),
    Job(name="push", args=("genekb", "push", "demo@1", "shared", "--home", "home"), before=(("genekb", *BUILD),)),
)
_CLUSTERED = (("genekb", *BUILD), ("cellmodel", *FIRST))
CELLMODEL = (
    Job(
        name="cluster",
        args=("cellmodel", *CLUSTER, "-o", "out.h5ad", "--report", "report.html", "--save-model", "model"),
        before=(("genekb", *BUILD),),
    ),
    Job(name="cluster-overwrite", args=("cellmodel", *FIRST, "--seed", "0", "--overwrite"), before=_CLUSTERED),
    Job(name="cluster-zarr", args=("cellmodel", *PLAIN, "-o", "out.zarr")),
    Job(
        name="cluster-over-zarr",
        args=("cellmodel", *PLAIN, "-o", "out.zarr", "--seed", "0", "--overwrite"),
        before=(("cellmodel", *PLAIN, "-o", "out.zarr", "--seed", "1"),),
    ),
    Job(
        name="cluster-out-of-core",
        args=("cellmodel", *CLUSTER, "--out-of-core", "yes", "-o", "out.h5ad"),
        before=(("genekb", *BUILD),),
    ),
    Job(
        name="attribute",
        args=(
            *("cellmodel", "attribute", "out.h5ad"),
            *KB,
            *["-o", "told.h5ad", "--tables", "tables", "--permutations", "20"],
        ),
        before=_CLUSTERED,
    ),
    Job(name="annotate", args=("cellmodel", "annotate", "out.h5ad", *KB, "-o", "named.h5ad"), before=_CLUSTERED),
    Job(
        name="predict",
        args=("cellmodel", "predict", "cells.h5ad", "--model", "model", *KB, "-o", "new.h5ad"),
        before=_CLUSTERED,
    ),
)
JOBS = {job.name: job for job in (*GENEKB, *CELLMODEL)}


def write_inputs(folder: Path) -> None:
    """Write gene tables of two releases, vectors made elsewhere, cells, and a tiny model."""
    import pandas as pd

    from genekb.sources import table

    genes = pd.read_csv(Path(table.__file__).parent / "demo_genes.tsv", sep="\t", dtype=str, keep_default_na=False)
    folder.mkdir(parents=True)
    genes.to_csv(folder / "genes-1.tsv", sep="\t", index=False)
    changed = genes.copy()
    changed.loc[::4, "summary"] += " Its text is another one in this release."
    changed.iloc[20:].to_csv(folder / "genes-2.tsv", sep="\t", index=False)
    _write_vectors(genes["symbol"].tolist(), folder / "vectors.tsv")
    _write_cells(genes["symbol"].tolist()[:N_GENES], folder / "cells.h5ad")
    _write_model(folder / "tiny-bert")


def _write_vectors(symbols: list[str], path: Path) -> None:
    import numpy as np
    import pandas as pd

    values = np.random.default_rng(0).normal(size=(len(symbols), 32)).round(4)
    pd.DataFrame(values).assign(symbol=symbols).to_csv(path, sep="\t", index=False)


def _write_cells(symbols: list[str], path: Path) -> None:
    import anndata
    import numpy as np
    import scipy.sparse as sp

    rng = np.random.default_rng(0)
    profiles = rng.gamma(0.4, 2.0, (N_TYPES, len(symbols)))
    counts = rng.poisson(profiles[np.arange(N_CELLS) % N_TYPES]).astype(np.float32)
    cells = anndata.AnnData(sp.csr_matrix(counts))
    cells.var_names = symbols
    cells.write_h5ad(path)


def _write_model(folder: Path) -> None:
    """Write a BERT of two small layers in a plain transformers folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir()
    letters = [piece for letter in "abcdefghijklmnopqrstuvwxyz0123456789" for piece in (letter, f"##{letter}")]
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ":", *letters]))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_template(job: Job, inputs: Path, folder: Path, *, run: Callable[[tuple[str, ...], Path], None]) -> None:
    """Make the folder that a job starts from."""
    shutil.copytree(inputs, folder)
    for command in job.before:
        run(command, folder)


@contextmanager
def serving_slowly(inputs: Path, *, run: Callable[[tuple[str, ...], Path], None]) -> Iterator[str]:
    """Serve a store and a mirror of NCBI's files over a slow link; give the address."""
    from tests.conftest import write_release
    from tests.support.loopback import serving

    folder = inputs.parent / "served"
    shutil.copytree(inputs, folder)
    for command in (("genekb", *BUILD), ("genekb", "push", "demo@1", "shared", "--home", "home")):
        run(command, folder)
    release = write_release(folder, "2022-11")
    files = {f"/ncbi/{path.name}": path.read_bytes() for path in release.iterdir()}
    shared = folder / "shared"
    files |= {f"/store/{path.relative_to(shared)}": path.read_bytes() for path in shared.rglob("*") if path.is_file()}
    reader, writer = os.pipe()
    child = os.fork()
    if not child:  # in a process of its own, since a process with threads is not to be forked
        with serving(files=files, pause_s=PAUSE_S) as server:
            os.write(writer, server.url.encode())
            signal.pause()
    try:
        yield os.read(reader, 100).decode()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def is_temporary(name: str) -> bool:
    """Whether a path is one of those that a next run uses or removes."""
    return bool(_TEMPORARY.search(name))


def snapshot(folder: Path) -> Snapshot:
    """Digest every file of a folder; of manifests without the time at which they were made."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not _CHANGING.search(name):
            found[name] = hashlib.sha256(_lasting(path)).hexdigest()
        elif path.is_dir() and is_temporary(name):
            found[name + "/"] = ""
    return found


def _lasting(path: Path) -> bytes:
    content = path.read_bytes()
    if path.name == MANIFEST:
        try:
            manifest = json.loads(content)
        except ValueError:
            return content
        return json.dumps({key: value for key, value in manifest.items() if key != "created_at"}).encode()
    return content


def look(folder: Path, before: Snapshot, after: Snapshot) -> tuple[Snapshot, list[str]]:
    """Compare what is visible with what was there and what an undisturbed run leaves, and verify every store."""
    now, faults = snapshot(folder), []
    for name, digest in now.items():
        if not is_temporary(name) and digest not in (before.get(name), after.get(name)):
            faults.append(f"{name} is neither the old nor the new one")
    faults += [f"{name} is gone" for name in before if name not in now and not is_temporary(name) and name in after]
    for unit in sorted({found[0] for name in {**now, **before, **after} if (found := _UNITS.match(name))}):
        parts = [{name: one[name] for name in one if name.startswith(unit)} for one in (now, before, after)]
        is_shown = unit + MANIFEST in parts[0] if unit.startswith("shared/") else bool(parts[0])  # it comes last there
        if is_shown and parts[0] not in parts[1:]:
            faults.append(f"{unit} is half of one")
    return now, faults + _store_faults(folder)


def _store_faults(folder: Path) -> list[str]:
    """Verify every store that can be found by its name or digest, and that a name stands for one that is there."""
    from genekb.core.errors import GeneKBError
    from genekb.store.home import CURRENT, current_folder
    from genekb.store.verify import verify_store

    faults = []
    for manifest in folder.glob(f"home/stores/*/*/{MANIFEST}"):
        if not manifest.parent.name.startswith("."):
            try:
                faults += [str(fault) for fault in verify_store(manifest.parent).faults]
            except GeneKBError as error:
                faults.append(str(error))
    for pointer in folder.glob(f"home/stores/*/{CURRENT}"):
        if current_folder(pointer.parent) is None:
            faults.append(f"{pointer} stands for nothing")
    return faults
