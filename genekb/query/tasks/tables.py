"""Tables of gene-level tasks: terms with genes or pairs of genes, labels, and the parts that are trained and scored."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int
from numpy.typing import NDArray

from genekb.core.errors import SourceUnusable
from genekb.core.words import split_words
from genekb.schema import IntArray, StrArray
from genekb.sources.base import optional_file, read_header, read_rows
from genekb.store.reader import Store

ScoredOn = Literal["test", "inner"]
Mask = NDArray[np.bool_]
PUBLISHED: Final = "published"
TERM_NAMES: Final = "terms.tsv"
_LEAST_LETTERS: Final = 3  # of a word of a term that is masked
TEST: Final = "test"
N_FOLDS: Final = 5  # of a table without parts of its own
_GENE_COLUMNS: Final = (("gene_id_1", "gene_id_2"), ("gene_1", "gene_2"), ("gene_id",), ("gene",))
_NEEDED: Final = "columns term, gene_id or gene, label[, split], or gene_id_1, gene_id_2, label[, fold1, ...]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """Rows that are trained on, and rows that are scored by what was learnt."""

    train: Bool[np.ndarray, " row"]
    scored: Bool[np.ndarray, " row"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """Genes, or pairs of genes, that have a term and that lack it."""

    name: str
    genes: Int[np.ndarray, "row member"]  # GeneIDs: one a row, or the two of a pair
    has_term: Bool[np.ndarray, " row"]
    rounds: Mapping[ScoredOn, tuple[Round, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneTask:
    """A table of terms, its names resolved against a store."""

    name: str
    terms: tuple[Term, ...]
    gene_ids: IntArray  # distinct GeneIDs of the table, ascending, known to the store or not
    unknown: tuple[str, ...]  # names that the store does not know, left out
    n_repeated: int  # rows left out because a row before them has the same gene or pair, and the same label
    words: tuple[str, ...]  # of the names of its terms, as ``terms.tsv`` of the folder has them (task, term, name)
    has_test: bool  # False where each fold is scored in turn, so that ``inner`` leaves no gene untouched


def read_tasks(folder: Path, store: Store) -> tuple[tuple[GeneTask, ...], dict[str, str]]:
    """Read the tables ``NAME.tsv`` or ``NAME.tsv.gz`` of a folder, and why others of it were left out."""
    if not folder.is_dir():
        raise SourceUnusable(f"{folder} is not a folder; give `tasks` a folder of tables NAME.tsv with {_NEEDED}")
    tasks, left_out = [], {}
    for path in sorted([*folder.glob("*.tsv"), *folder.glob("*.tsv.gz")]):
        if path.name.removesuffix(".gz") == f"{PUBLISHED}.tsv":
            continue
        header = read_header(path)
        if path.name.removesuffix(".gz") == TERM_NAMES and {"task", "name"} <= set(header):
            continue
        if "label" in header and _gene_columns(header):
            tasks.append(read_task(path, store))
        else:
            left_out[path.name] = "no table of a task: it lacks a column label, or genes"
    if not tasks:
        raise SourceUnusable(f"{folder} has no table of a task; it needs NAME.tsv with {_NEEDED}")
    return tuple(tasks), left_out


def _term_words(folder: Path, task: str) -> tuple[str, ...]:
    """Words of the names of a task's terms; none where the folder does not have their names."""
    path = optional_file(folder, TERM_NAMES)
    if path is None or not {"task", "name"} <= set(header := read_header(path)):
        return ()
    rows, _ = read_rows(path, header, null_values=("",))
    names = [
        name or ""
        for own, name in zip(*(rows[key].to_pylist() for key in ("task", "name")), strict=True)
        if own == task
    ]
    return tuple(sorted({word for name in names for word in split_words(name) if len(word) >= _LEAST_LETTERS}))


def _gene_columns(header: Sequence[str]) -> tuple[str, ...]:
    return next((columns for columns in _GENE_COLUMNS if set(columns) <= set(header)), ())


def read_task(path: Path, store: Store) -> GeneTask:
    """Read one table; ``SourceUnusable`` for labels other than 0 and 1, two of a gene, or no name that is known."""
    header = read_header(path)
    if twice := {name for name in header if header.count(name) > 1}:
        raise SourceUnusable(f"{path} has the column {min(twice)!r} twice; keep one")
    columns = _gene_columns(header)
    folds = [name for name in header if name.startswith("fold")] if len(columns) > 1 else []
    rows, _ = read_rows(path, header, null_values=("",))
    if not rows.num_rows:
        raise SourceUnusable(f"{path} holds no row")
    genes, unknown = _read_genes(path, rows, columns, store)
    has_term = _read_labels(path, rows)
    terms = _texts(rows, "term") if "term" in header else np.full(rows.num_rows, path.name.split(".")[0])
    parts = {name: _texts(rows, name) for name in (folds or [name for name in ("split",) if name in header])}
    has_test = bool(folds) or ("split" in parts and TEST in parts["split"])
    kept, n_repeated = _distinct(path, genes, terms, has_term)
    made = []
    for name in dict.fromkeys(terms[kept].tolist()):
        index = kept[terms[kept] == name]
        own = {key: part[index] for key, part in parts.items()}
        rounds = _rounds(f"{path}: a row of {name!r}", genes[index], own, has_test=has_test)
        made.append(Term(name=name, genes=genes[index], has_term=has_term[index], rounds=rounds))
    task = path.name.removesuffix(".gz").removesuffix(".tsv")
    return GeneTask(
        name=task,
        words=_term_words(path.parent, task),
        terms=tuple(made),
        gene_ids=np.unique(genes[kept]),
        unknown=unknown,
        n_repeated=n_repeated,
        has_test=has_test,
    )


def _texts(rows: pa.Table, column: str) -> StrArray:
    return np.array([value or "" for value in rows[column].to_pylist()], dtype=np.str_)


def _read_labels(path: Path, rows: pa.Table) -> Mask:
    labels = _texts(rows, "label")
    wrong = labels[~np.isin(labels, ["0", "1"])]
    if len(wrong):
        raise SourceUnusable(f"{path}: label {str(wrong[0])!r} is neither 0 nor 1")
    return np.asarray(labels == "1")


def _read_genes(path: Path, rows: pa.Table, columns: Sequence[str], store: Store) -> tuple[IntArray, tuple[str, ...]]:
    """GeneIDs (row, member), 0 where a name is unknown, and the names that are."""
    texts = np.column_stack([_texts(rows, column) for column in columns])
    distinct, index = np.unique(texts, return_inverse=True)
    if columns[0].startswith("gene_id"):
        wrong = next((name for name in distinct.tolist() if not name.isdecimal() or int(name) < 1), None)
        if wrong is not None:
            raise SourceUnusable(f"{path}: {columns[0]} {wrong!r} is no GeneID; call a column of symbols 'gene'")
        gene_ids = distinct.astype(np.int64)
        unknown = distinct[~np.isin(gene_ids, store.table("genes")["gene_id"].to_numpy())]
    else:
        gene_ids = store.resolve(distinct.tolist()).gene_ids
        unknown = distinct[gene_ids == 0]
        if not gene_ids.any():
            raise SourceUnusable(f"{path}: none of {len(distinct):,} names is a gene of {store.store_id}")
    return gene_ids[index].reshape(texts.shape), tuple(unknown.tolist())


def _distinct(path: Path, genes: IntArray, terms: StrArray, has_term: Mask) -> tuple[IntArray, int]:
    """Rows with known genes, each gene or pair once a term, and how many repeat one before them."""
    known = np.flatnonzero((genes > 0).all(axis=1))
    keys = np.column_stack([np.unique(terms, return_inverse=True)[1], np.sort(genes, axis=1)])[known]
    _, first, index = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    differs = np.flatnonzero(has_term[known] != has_term[known[first[index.ravel()]]])
    if len(differs):
        row = known[differs[0]]
        which = " and ".join(map(str, genes[row].tolist()))
        raise SourceUnusable(f"{path}: gene {which} has both labels for {str(terms[row])!r}; keep one row")
    return known[np.sort(first)], len(known) - len(first)


def _rounds(
    where: str, genes: IntArray, parts: Mapping[str, StrArray], *, has_test: bool
) -> Mapping[ScoredOn, tuple[Round, ...]]:
    """Give the rounds of the rows of a term, by the columns of the table that say them, else by hash of the genes."""
    if parts and genes.shape[1] > 1:
        return _rounds_of_folds(parts)
    folds = parts["split"][:, None] if parts else np.column_stack([hash_folds(member) for member in genes.T])
    if not np.char.str_len(folds).all():
        raise SourceUnusable(f"{where} has no split; write fold1, fold2, ... or test")
    return _rounds_in_turn(folds, has_test=has_test)


def hash_folds(gene_ids: Int[np.ndarray, " gene"]) -> StrArray:
    """Fold of each gene, by a hash of its GeneID: the same in every table."""
    digests = (hashlib.sha256(str(gene).encode()).digest() for gene in gene_ids.tolist())
    return np.array([f"fold{int.from_bytes(digest[:8], 'big') % N_FOLDS + 1}" for digest in digests], dtype=np.str_)


def _rounds_in_turn(folds: StrArray, *, has_test: bool) -> Mapping[ScoredOn, tuple[Round, ...]]:
    """Score ``test`` by all folds, else each fold by the others: pairs within it, trained without a gene of it."""

    def scored(fold: str, *left: str) -> Round:
        is_trained = np.isin(folds, [fold, *left], invert=True).all(axis=1)
        return Round(train=np.asarray(is_trained), scored=(folds == fold).all(axis=1))

    names = sorted(set(folds.ravel().tolist()) - {TEST})
    outer = [TEST] if has_test else names
    inner = tuple(scored(fold, left) for left in outer for fold in names if fold != left)
    return {"test": tuple(map(scored, outer)), "inner": inner if len(names) > has_test else ()}


def _rounds_of_folds(parts: Mapping[str, StrArray]) -> Mapping[ScoredOn, tuple[Round, ...]]:
    """Give rounds of columns of ``test``, ``-`` (not used), ``train:abc``: t trained, v scored inside."""
    test = tuple(Round(train=np.char.startswith(part, "train"), scored=part == TEST) for part in parts.values())
    inner = []
    for part in parts.values():
        letters = [value.partition(":")[2] if value.startswith("train") else "" for value in part.tolist()]
        for number in range(max(map(len, letters))):
            own = np.array([word[number : number + 1] for word in letters])
            inner.append(Round(train=own == "t", scored=own == "v"))
    return {"test": test, "inner": tuple(inner)}
