"""Cell files of every kind, MuData too → AnnData; one that cannot be read gives one line that says what to do."""

import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import scipy.sparse as sp

from cellmodel.core.errors import InputUnusable
from cellmodel.io.formats.tables import read_table
from cellmodel.io.formats.tenx import find_group, read_10x_folder, read_10x_h5
from cellmodel.io.guard import (
    KINDS,
    check_declared,
    check_enclosed,
    check_enclosed_folder,
    check_hdf5,
    check_there,
    damage_is_one_line,
    quiet_names,
    refused_by_anndata,
)
from cellmodel.io.matrix import GENE_EXPRESSION, gene_columns

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

# kinds of files, and those of their output
WRITTEN_AS: Final = {".h5ad": ".h5ad", ".h5mu": ".h5ad", ".zarr": ".zarr", ".h5": ".h5ad"}
_TEXT: Final = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
# Kinds of other programs, and how to come from them to one that is read
_OTHERS: Final = {
    ".xlsx": "save the sheet as .csv",
    ".xls": "save the sheet as .csv",
    ".rds": "write it as .h5ad in R (zellkonverter, sceasy)",
    ".rdata": "write it as .h5ad in R (zellkonverter, sceasy)",
    ".h5seurat": "write it as .h5ad in R (SeuratDisk)",
    ".mtx": "give its folder, with barcodes.tsv and features.tsv beside it",
    ".zip": "unpack it first",
    ".tar": "unpack it first",
}


def read_anndata(path: Path, *, transpose: bool = False) -> "AnnData":
    """Read a file or folder of cells, whatever its kind; ``transpose``: a text table has genes in its rows."""
    check_there(path, kinds=KINDS)
    reader = _find_reader(path, transpose=transpose)
    with damage_is_one_line(path), quiet_names():
        adata = reader(path)
        for matrix in (adata.X, *adata.layers.values(), None if adata.raw is None else adata.raw.X):
            if sp.issparse(matrix):  # scipy believes indices, and would end the process at one that points out of it
                matrix.check_format(full_check=True)
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise InputUnusable(f"{path} holds {adata.n_obs} cells x {adata.n_vars} genes; is it empty?")
    return adata


def _find_reader(path: Path, *, transpose: bool) -> "Callable[[Path], AnnData]":
    name = path.name.lower().removesuffix(".gz")
    suffix = next((each for each in _TEXT if name.endswith(each)), None)
    if suffix is not None and not path.is_dir():
        return lambda table: read_table(table, _TEXT[suffix], transpose=transpose)
    check_transpose(path, transpose=transpose)
    readers: dict[str, Callable[[Path], AnnData]] = {
        ".h5ad": _read_h5ad,
        ".h5mu": _read_h5ad,
        ".zarr": _read_zarr,
        ".h5": read_10x_h5,
        ".loom": _read_loom,
    }
    for ending, reader in readers.items():
        if name.endswith(ending):
            return reader
    if path.is_dir():
        return read_10x_folder
    for ending, hint in _OTHERS.items():
        if name.endswith(ending):
            raise InputUnusable(f"{path} is of a kind that is not read; {hint}, or give {KINDS}")
    raise InputUnusable(f"{path} is of a kind that is not known; give {KINDS}")


def check_transpose(path: Path, *, transpose: bool) -> None:
    """Refuse to transpose anything but a text table."""
    if transpose:
        raise InputUnusable(
            f"{path} is no text table, and transpose=True turns .csv and .tsv alone; leave it out, or turn the cells "
            "before: adata.T.write('turned.h5ad')"
        )


def check_is_anndata(path: Path, file: Any) -> None:
    """Check that an open HDF5 file or zarr store has the tables of cells and of genes."""
    if "obs" in file and "var" in file:
        return
    have = ", ".join(sorted(file)[:5]) or "nothing"
    hint = "write it as .h5ad with anndata"
    if "matrix" in file:
        hint = "a 10x file is named .h5"
    raise InputUnusable(f"{path} is no AnnData: it lacks obs or var (it has: {have}); {hint}")


def _read_h5ad(path: Path) -> "AnnData":
    import anndata
    import h5py

    check_hdf5(path)
    with h5py.File(path) as file:
        if find_modality(path, file):
            return _read_modality(path, file)
        check_is_anndata(path, file)
        check_declared(path, file)
    with refused_by_anndata(path):
        return anndata.read_h5ad(path)


def _read_zarr(path: Path) -> "AnnData":
    import anndata

    file = open_zarr(path)
    with refused_by_anndata(path):
        if find_modality(path, file):
            return _read_modality(path, file)
        check_is_anndata(path, file)
        check_declared(path, file)
        return anndata.read_zarr(file)


def _read_modality(path: Path, file: Any) -> "AnnData":
    """Read the modality of an open MuData that holds the genes."""
    from anndata.io import read_elem

    group = cells_group(path, file)
    check_is_anndata(path, group)
    check_declared(path, group)
    with refused_by_anndata(path):
        adata = read_elem(group)
        adata.obs = with_common_obs(path, adata.obs, file)
    return adata


@contextmanager
def open_file(path: Path) -> Iterator[Any]:
    """Open an .h5ad, .h5mu, .h5 or .zarr that has been checked."""
    if path.suffix == ".zarr":
        import zarr

        yield zarr.open_group(path, mode="r")
        return
    import h5py

    with h5py.File(path) as file:
        yield file


def notes_on(path: Path) -> tuple[str, ...]:
    """Say which modality of a file that can be read is used; nothing for a file of another kind than MuData."""
    if path.suffix not in {".h5ad", ".h5mu", ".zarr"}:
        return ()
    with damage_is_one_line(path), open_file(path) as file:
        modality = find_modality(path, file)
        others = ", ".join(name for name in file["mod"] if name != modality) if modality else ""
    return (f"MuData: modality {modality!r} is read" + (f"; not read: {others}" if others else ""),) if modality else ()


def column_names(path: Path, part: str) -> list[str]:
    """Names of the columns of ``obs`` or ``var`` of an .h5ad, .h5mu or .zarr, without reading anything else."""
    with open_file(path) as file:
        return list(cells_group(path, file)[part].attrs["column-order"])


def open_zarr(path: Path) -> Any:
    """Open a zarr store without external links, every array of which has a description that can be read."""
    import zarr

    if not path.is_dir():
        raise InputUnusable(f"{path} is a file, a zarr store is a folder; unpack it if it is an archive")
    if not any((path / name).is_file() for name in (".zgroup", "zarr.json")):
        raise InputUnusable(f"{path} lacks .zgroup or zarr.json, so it is no zarr store; copy the whole folder again")
    check_enclosed_folder(path)
    with refused_by_anndata(path):  # zarr too raises TypeError at what it does not know
        group = zarr.open_group(path, mode="r")
        deque(group.members(max_depth=None), maxlen=0)
    return group


@contextmanager
def open_stored(path: Path) -> Iterator[Any]:
    """Open a file that can be read in blocks, and check that it is of its kind and holds all of its parts."""
    check_there(path, kinds=" or ".join(WRITTEN_AS))
    if path.suffix == ".zarr":
        yield open_zarr(path)
    else:
        check_hdf5(path)
        with open_file(path) as file:
            yield file


def find_matrices(path: Path, file: Any) -> dict[str, str]:
    """Find where the matrices of a file are, by their places."""
    if path.suffix == ".h5":
        return {"X": find_group(path, file)}
    group, modality = cells_group(path, file), find_modality(path, file)
    layers = [f"layers/{name}" for name in group["layers"]] if "layers" in group else []
    places = (*layers, *(place for place in ("X", "raw/X") if place in group))
    return {place: f"mod/{modality}/{place}" if modality else place for place in places}


def count_stored(element: Any) -> int:
    """Count the entries of a matrix that are stored."""
    array = element["data"] if hasattr(element, "keys") else element
    if hasattr(array, "keys"):
        raise ValueError("the data of a matrix are not one-dimensional")
    return math.prod(array.shape)


def _read_loom(path: Path) -> "AnnData":
    import importlib.util

    import h5py

    check_hdf5(path)
    with h5py.File(path) as file:
        check_declared(path, file)
        if len(getattr(file.get("matrix"), "shape", ())) != 2:  # noqa: PLR2004 - genes and cells
            raise InputUnusable(f"{path} is no loom file: it has no matrix of genes and cells; convert it to .h5ad")
    if importlib.util.find_spec("loompy") is None:
        raise InputUnusable(
            f"{path}: reading .loom needs the package loompy; pip install loompy, or convert it to .h5ad"
        )
    import anndata

    with refused_by_anndata(path):
        return anndata.io.read_loom(path)


_NAMES: Final = ("rna", "gex", "mrna", "gene_expression", "gene expression", "transcriptome")  # in lower case
_LEAST: Final = 500  # features; panels of antibodies are smaller
_ENSEMBL: Final = re.compile(r"ENS[A-Z]*G\d{11}(?:\.\d+)?")
_PEAK: Final = re.compile(r"(?:chr|GL|KI|scaffold)?[\w.]+[:_-]\d+[-_]\d+")


def find_modality(path: Path, file: Any) -> str:
    """Find the modality of an open MuData that holds the genes: by its name, else the only one with genes in its var.

    Empty for a file of another kind.
    """
    if "mod" not in file or not hasattr(file["mod"], "keys"):
        return ""
    check_enclosed(path, file)
    every = list(file["mod"])
    named = [name for wanted in _NAMES for name in every if name.lower() == wanted]
    found = named[:1] or [name for name in every if _has_genes(path, file["mod"][name])]
    if len(found) != 1:
        what = "which of them holds the genes is not clear" if found else "none of them looks like genes"
        raise InputUnusable(
            f"{path} is MuData with the modalities {', '.join(every) or 'none'}, and {what}; write the one with the "
            f"genes: mdata[{(every or ['rna'])[0]!r}].write('cells.h5ad')"
        )
    return found[0]


def _has_genes(path: Path, modality: Any) -> bool:
    """Whether the features of a modality look like genes: by their types, else by their names and number."""
    from anndata.io import read_elem

    if "var" not in modality:
        return False
    check_declared(path, modality["var"])
    var = read_elem(modality["var"])
    if "feature_types" in var:
        try:
            return bool(len(gene_columns(var, source=""))) and GENE_EXPRESSION in set(var["feature_types"].astype(str))
        except InputUnusable:
            return False
    names = [str(name) for name in var.index]
    n_peaks, n_ensembl = (sum(map(bool, map(each.fullmatch, names))) for each in (_PEAK, _ENSEMBL))
    return n_ensembl > len(names) / 2 or (len(names) >= _LEAST and n_peaks < len(names) / 2)


def cells_group(path: Path, file: Any) -> Any:
    """Give the group of an open file that holds one AnnData: the file itself, or the modality with the genes."""
    modality = find_modality(path, file)
    return file[f"mod/{modality}"] if modality else file


def with_common_obs(path: Path, obs: "pd.DataFrame", file: Any) -> "pd.DataFrame":
    """Add the columns of obs that MuData has for all modalities, such as types of cells, to those of one modality."""
    from anndata.io import read_elem

    if "mod" not in file or "obs" not in file:
        return obs
    check_declared(path, file["obs"])
    common = read_elem(file["obs"])
    modalities = tuple(f"{name}:" for name in file["mod"])
    wanted = [name for name in common if name not in obs and not str(name).startswith(modalities)]
    return obs.join(common.loc[~common.index.duplicated(), wanted]) if wanted else obs
