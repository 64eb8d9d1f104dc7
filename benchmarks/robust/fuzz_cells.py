"""What the fuzzer reads of cells: files of every kind that commands take, and a saved model."""

import json
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from benchmarks.robust.fuzz_base import read_each

if TYPE_CHECKING:
    from anndata import AnnData

N_CELLS, N_GENES = 12, 8


def counts() -> sp.csr_matrix:
    """(cell, gene) counts without an empty cell or gene."""
    return sp.csr_matrix(np.random.default_rng(0).poisson(2, (N_CELLS, N_GENES)).astype(np.float32) + np.eye(12, 8))


def gene_names() -> list[str]:
    return ["INS", "GCG", "CD19", "MS4A1", "CD3D", "CD3E", "LYZ", "NKG7"]


def cells() -> "AnnData":
    import anndata

    obs = pd.DataFrame(index=[f"cell{number}" for number in range(N_CELLS)])
    obs["type"] = pd.Categorical(["a", "b"] * (N_CELLS // 2))
    obs["depth"] = np.arange(N_CELLS, dtype=float)
    adata = anndata.AnnData(X=counts(), obs=obs, var=pd.DataFrame({"id": range(N_GENES)}, index=gene_names()))
    adata.layers["counts"] = counts()
    adata.layers["dense"] = counts().toarray()
    adata.obsm["spatial"] = np.arange(2.0 * N_CELLS).reshape(-1, 2)
    adata.uns["log1p"] = {"base": None}
    return adata


def write_h5ad(folder: Path) -> None:
    cells().write_h5ad(folder / "cells.h5ad")


def write_h5mu(folder: Path) -> None:
    import mudata

    proteins = cells()[:, :3].copy()
    proteins.var_names = [f"{name}_TotalSeq" for name in proteins.var_names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns that both modalities have
        mudata.MuData({"rna": cells(), "prot": proteins}).write(folder / "cells.h5mu")


def write_zarr(folder: Path, *, version: int) -> None:
    """Write a store of either version, the first without a list of its contents, the second with one."""
    import anndata

    with anndata.settings.override(zarr_write_format=version), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what will be another format one day
        cells().write_zarr(folder / "cells.zarr")
    (folder / "cells.zarr" / ".zmetadata").unlink(missing_ok=True)


def read_whole(folder: Path, *, name: str = "") -> Any:
    """Read cells; all loom files are refused where loompy is missing."""
    from cellmodel.io.cells import read_cells

    return read_cells(folder / name)


def read_stored(folder: Path, *, name: str) -> Any:
    """Read cells whole, and by blocks."""
    from cellmodel.core.stages import Stages
    from cellmodel.io.backed import open_backed
    from cellmodel.io.cells import ReadConfig, count_entries, read_cells, spatial_coordinates
    from cellmodel.io.gene_names import read_gene_totals

    path = folder / name

    def use(how: str) -> Any:
        if how == "blocks":
            count_entries(path, ReadConfig())
            backed = open_backed(path, ReadConfig())
            with TemporaryDirectory() as work:
                stages = Stages(Path(work), key={})
                matrices = [backed.matrix(place, stages) for place in backed.matrices.candidates(ReadConfig())]
                return [sum(block.sum() for block in matrix.blocks()) for matrix in matrices], backed
        if how == "totals":
            return read_gene_totals(path)
        return spatial_coordinates(read_cells(path).adata, source=str(path))

    return read_each(["cells", "totals", "blocks"], use)


def write_10x_h5(folder: Path) -> None:
    import h5py

    by_gene = counts().tocsr()
    with h5py.File(folder / "cells.h5", "w") as file:
        group = file.create_group("matrix")
        group["shape"] = np.array([N_GENES, N_CELLS])
        group["data"], group["indices"], group["indptr"] = by_gene.data.astype("i4"), by_gene.indices, by_gene.indptr
        group["barcodes"] = np.array([f"cell{number}".encode() for number in range(N_CELLS)])
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{number:011d}".encode() for number in range(N_GENES)])
        features["name"] = np.array([name.encode() for name in gene_names()])
        features["feature_type"] = np.array([b"Gene Expression"] * N_GENES)
        features["genome"] = np.array([b"GRCh38"] * N_GENES)


def write_10x_mtx(folder: Path) -> None:
    from scipy.io import mmwrite

    mmwrite(folder / "matrix.mtx", counts().T.astype(int), field="integer")
    (folder / "barcodes.tsv").write_text("".join(f"cell{number}\n" for number in range(N_CELLS)))
    rows = (f"ENSG{number:011d}\t{name}\tGene Expression\n" for number, name in enumerate(gene_names()))
    (folder / "features.tsv").write_text("".join(rows))


def write_loom(folder: Path) -> None:
    import h5py

    if find_spec("loompy"):
        import_module("loompy")  # takes seconds, which no case is to be charged for
    with h5py.File(folder / "cells.loom", "w") as file:
        file["attrs/LOOM_SPEC_VERSION"] = "3.0.0"
        file["matrix"] = counts().T.toarray()
        file["layers/spliced"] = counts().T.toarray()
        file["row_attrs/Gene"] = gene_names()
        file["row_attrs/Length"] = np.arange(N_GENES)
        file["col_attrs/CellID"] = [f"cell{number}" for number in range(N_CELLS)]
        file["col_attrs/spatial"] = np.arange(2.0 * N_CELLS).reshape(-1, 2)
        file.create_group("row_graphs")
        file.create_group("col_graphs")


def write_model(folder: Path) -> None:
    from cellmodel.core.config import RunConfig
    from cellmodel.io.records import Lineage
    from cellmodel.pp.text.view import TextMap
    from cellmodel.tl.model.fitted import FittedModel, save_model

    rng = np.random.default_rng(0)
    single = {"mean": rng.random(N_GENES), "deviation": rng.random(N_GENES) + 1}
    wide = rng.random((N_GENES, 4)).astype(np.float32)
    text = TextMap(
        has_vector=np.ones(N_GENES, bool), gene_vectors=wide, raw_gene_vectors=wide, center=wide[0], **single
    )
    model = FittedModel(
        config=RunConfig(recipe="pca-kmeans", knowledge="none"),
        names=tuple(gene_names()),
        gene_ids=np.arange(N_GENES),
        mean=single["mean"],
        components=rng.random((N_GENES, 3)),
        pcs=rng.random((N_CELLS, 3)).astype(np.float32),
        features=rng.random((N_CELLS, 3)).astype(np.float32),
        labels=np.repeat([0, 1], N_CELLS // 2),
        lineage=Lineage(store_id=""),
        text=text,
        state={},
    )
    save_model(model, folder / "model")


def read_model(folder: Path) -> Any:
    from cellmodel.tl.model.fitted import load_model

    return load_model(folder / "model")


def promise_model(folder: Path) -> None:
    """Let the description promise the arrays as they are."""
    from genekb.files.atomic import sha256_file

    path = folder / "model" / "model.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["sha256"] = sha256_file(folder / "model" / "arrays.safetensors")
        path.write_text(json.dumps(content), encoding="utf-8")
    except (OSError, ValueError, TypeError):
        return  # it is no description any more
