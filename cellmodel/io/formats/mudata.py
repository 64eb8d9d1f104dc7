"""MuData, several modalities of the same cells in one file: the one that holds the genes is found and read."""

import re
from typing import TYPE_CHECKING, Any, Final

from cellmodel.core.errors import InputUnusable
from cellmodel.io.guard import check_declared, check_enclosed
from cellmodel.io.matrix import GENE_EXPRESSION, gene_columns

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

_NAMES: Final = ("rna", "gex", "mrna", "gene_expression", "gene expression", "transcriptome")  # in lower case
_LEAST: Final = 500  # features; panels of antibodies are smaller
_ENSEMBL: Final = re.compile(r"ENS[A-Z]*G\d{11}(?:\.\d+)?")
_PEAK: Final = re.compile(r"(?:chr|GL|KI|scaffold)?[\w.]+[:_-]\d+[-_]\d+")


def find_modality(path: "Path", file: Any) -> str:
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


def _has_genes(path: "Path", modality: Any) -> bool:
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


def cells_group(path: "Path", file: Any) -> Any:
    """Give the group of an open file that holds one AnnData: the file itself, or the modality with the genes."""
    modality = find_modality(path, file)
    return file[f"mod/{modality}"] if modality else file


def modality_note(path: "Path", file: Any) -> tuple[str, ...]:
    """Say which modality of an open file is read, and which are not; nothing for a file of another kind."""
    modality = find_modality(path, file)
    if not modality:
        return ()
    others = ", ".join(name for name in file["mod"] if name != modality)
    return (f"MuData: modality {modality!r} is read" + (f"; not read: {others}" if others else ""),)


def with_common_obs(path: "Path", obs: "pd.DataFrame", file: Any) -> "pd.DataFrame":
    """Add the columns of obs that MuData has for all modalities, such as types of cells, to those of one modality."""
    from anndata.io import read_elem

    if "mod" not in file or "obs" not in file:
        return obs
    check_declared(path, file["obs"])
    common = read_elem(file["obs"])
    modalities = tuple(f"{name}:" for name in file["mod"])
    wanted = [name for name in common if name not in obs and not str(name).startswith(modalities)]
    return obs.join(common.loc[~common.index.duplicated(), wanted]) if wanted else obs
