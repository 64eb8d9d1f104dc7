"""Commands that write, each with the folder that it starts from: what ``robust/kills.py`` kills."""

import os
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
PLAIN = ("cluster", "cells.h5ad", "--knowledge", "none", "--n-clusters", "5", "--recipe", "pca-kmeans")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A command, and those that are run before it.

    Parameters
    ----------
    name
        As in the table.
    args
        Program and arguments; paths are relative to the working folder, ``{url}`` is the server on loopback.
    before
        Commands whose results it starts from; they are inputs, and have to stay as they are.
    """

    name: str
    args: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()


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
            "cellmodel",
            "attribute",
            "out.h5ad",
            *KB,
            "-o",
            "told.h5ad",
            "--tables",
            "tables",
            "--permutations",
            "20",
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
