"""Vectors of genes that were made elsewhere: files of names and numbers, read without running anything in them."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from genekb.core.errors import SourceUnusable
from genekb.encoders.base import EncoderSpec
from genekb.encoders.imported.files import GeneRows, read_names, read_rows
from genekb.files.atomic import sha256_file
from genekb.schema import FloatArray

Keys = Literal["auto", "gene_id", "row"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignVectors:
    """Vectors of genes as a file gives them; they are not scaled to unit length, a search does that."""

    names: tuple[str, ...]  # (gene,) symbols or identifiers, distinct, in the order of the file
    vectors: FloatArray  # (gene, dim) float32, finite, none all zero
    file_name: str  # file_name, sha256: the file
    sha256: str
    # ``word2vec``, ``npy``, ``npz``, ``parquet``, ``csv``, ``tsv``, ``json``, ``safetensors``, ``pickle`` or ``h5ad``
    format: str
    # rows that were left out, each as its name and the reason. Of rows with one name the first usable one is kept
    dropped: tuple[tuple[str, str], ...] = ()
    # second_column, second_names: another column that names the genes, and what it calls each of ``names``; empty where
    # there is none
    second_column: str = ""
    second_names: tuple[str, ...] = ()
    are_gene_ids: bool = False  # whether the file itself says that ``names`` are GeneIDs, as an export of a store does

    @property
    def n_dropped(self) -> dict[str, int]:
        """Rows that were left out, counted by reason."""
        return dict(Counter(reason for _, reason in self.dropped))


def read_foreign(
    path: Path, *, names: Path | None = None, column: str | None = None, keys: Keys = "auto"
) -> ForeignVectors:
    """Read vectors of genes; the suffix of the file decides its format.

    ========================================  ==================================================================
    ``.emb``, ``.vec``, ``.w2v``, ``.txt``    word2vec text: a line of two counts, then a name and numbers a line
    ``.npy``                                  a matrix (gene, dim); its names in ``<stem>.genes.tsv`` or ``names``
    ``.npz``, ``.safetensors``                a matrix, beside it ``gene_ids`` or ``symbols``; else ``names``
    ``.parquet``                              columns of names and one of lists, or numeric columns
    ``.csv``, ``.tsv``                        columns of names and numeric columns
    ``.json``                                 an object of name → list of numbers, as GenePT's
    ``.pkl``, ``.pickle``                     a dict of name → list or array, see `safe_pickle`
    ========================================  ==================================================================

    ``names``: a name for each row, where the file has none or only numbers: one a line, a table with one of
    :data:`genekb.encoders.imported.files.NAME_COLUMNS`, or as JSON a list, or an object of name → row. ``column``:
    column of a table that holds the names (the first of those if left out), or the matrix among several arrays.
    ``keys``: ``row``: the keys of the file are rows of ``names``, from 0. Else ``names`` has the order of the vectors.
    Raises ``SourceUnusable`` if the file is missing, of another format, empty, or not what its format promises.
    """
    kind, rows = read_rows(path, column)
    return foreign_vectors(rows, path=path, kind=kind, names=names, keys=keys)


def foreign_vectors(
    rows: GeneRows, *, path: Path, kind: str, names: Path | None = None, keys: Keys = "auto"
) -> ForeignVectors:
    """Name the rows of a file, see :func:`read_foreign`, and leave out those that cannot serve.

    Raises ``SourceUnusable`` if names and rows do not fit, or no row can be used.
    """
    if not rows.columns and names is None and genes_beside(path).is_file():
        names = genes_beside(path)
    if names is not None:
        rows = _named_by(rows, names, path=path, keys=keys)
    elif keys == "row" or not rows.columns:
        what = 'keys="row" needs' if keys == "row" else f"{path} holds no names; give"
        raise SourceUnusable(f"{what} a file with one name a row (`names`)")
    return _keep_usable(rows, path=path, kind=kind)


def genes_beside(path: Path) -> Path:
    """File that names the rows of an exported matrix."""
    return path.with_name(f"{path.stem}.genes.tsv")


def is_number(name: str) -> bool:
    """Whether a name is an integer, which may be a GeneID or any other number."""
    return name.isascii() and name.isdigit()


def foreign_spec(*, name: str, vectors: ForeignVectors) -> EncoderSpec:
    """Describe where vectors come from, in the form of a recipe; nobody can encode a text with it.

    The digest of names and values is part of it, since a file of names or another column may change what a row means.
    """
    digest = hashlib.sha256("\n".join(vectors.names).encode())
    digest.update(np.ascontiguousarray(vectors.vectors, dtype="<f4").tobytes())
    return EncoderSpec(
        name=name,
        kind="foreign",
        model_id=vectors.file_name,
        revision=vectors.format,
        weights_sha256=vectors.sha256,
        normalise=False,
        dim=vectors.vectors.shape[1],
        state_sha256=digest.hexdigest(),
    )


def _named_by(rows: GeneRows, names: Path, *, path: Path, keys: Keys) -> GeneRows:
    """Put the names of another file to rows that have none, or numbers."""
    own = next(iter(rows.columns.values()), None)
    if own is not None and not all(map(is_number, own)):
        raise SourceUnusable(f"{path} holds its names itself; `names` is for matrices, and for keys that are numbers")
    columns = read_names(names)
    n_names = len(next(iter(columns.values())))
    if keys != "row":
        if n_names != len(rows.matrix):
            raise SourceUnusable(f"{names} has {n_names} names, {path.name} has {len(rows.matrix)} rows")
        return GeneRows(columns=columns, matrix=rows.matrix)
    if own is None:
        raise SourceUnusable(f'{path} has no keys that could be rows of {names}; leave out keys="row"')
    places = [int(key) for key in own]
    if max(places, default=0) >= n_names:
        raise SourceUnusable(f"{path.name} has the key {max(places)}, {names} has the rows 0 to {n_names - 1}")
    return GeneRows(columns={key: [each[row] for row in places] for key, each in columns.items()}, matrix=rows.matrix)


def _keep_usable(rows: GeneRows, *, path: Path, kind: str) -> ForeignVectors:
    """Leave out rows that cannot serve, each with the first reason that holds."""
    (_, first), (second_column, second) = [*rows.columns.items(), ("", ())][:2]
    names = [name.strip() for name in first]
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and such rows are dropped
        vectors = np.asarray(rows.matrix, dtype=np.float32)  # (gene, dim)
    if not vectors.size:
        raise SourceUnusable(f"{path} holds no vector")
    odd = next((name for name in names if not name.isprintable()), None)
    if odd is not None:
        raise SourceUnusable(f"{path}: {ascii(odd)[:60]} is no name of a gene")
    largest: FloatArray = np.abs(vectors).max(axis=1)  # (gene,), NaN where a value is
    unusable = [[not name for name in names], ~np.isfinite(largest), largest == 0]
    reasons = np.select(unusable, ["no name", "not finite", "all zero"], default="").tolist()
    dropped: list[tuple[str, str]] = []
    kept: dict[str, int] = {}
    for row, (name, reason) in enumerate(zip(names, reasons, strict=True)):
        if reason or name in kept:
            dropped.append((name or f"row {row}", reason or "repeated name"))
        else:
            kept[name] = row
    if not kept:
        counted = ", ".join(f"{count} {reason}" for reason, count in Counter(one for _, one in dropped).items())
        raise SourceUnusable(f"{path}: none of {len(names)} rows can be used ({counted})")
    return ForeignVectors(
        names=tuple(kept),
        vectors=np.ascontiguousarray(vectors[list(kept.values())]),
        file_name=path.name,
        sha256=sha256_file(path),
        format=kind,
        dropped=tuple(dropped),
        second_column=second_column,
        second_names=tuple(second[row] for row in kept.values()) if second else (),
        are_gene_ids=rows.are_gene_ids,
    )
