"""Gene sets and names for them: lists, GMT files and tables, a store, phrases of texts; no gene is resolved here."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.compute as pc

from genekb.core.errors import SourceUnusable
from genekb.core.messages import counted
from genekb.core.words import gene_stop_words, split_clauses, split_sentences, split_words, stop_words
from genekb.files.tables import read_list, read_rows, read_table, read_text, table_format
from genekb.store.reader import Store

VOCABULARIES: Final = ("go_process", "go_function", "go_component", "gene_group")  # whose terms are names of gene sets
_SET_COLUMNS: Final = ("set", "gene_set", "set_id", "cluster")  # the first that a table has
_GENE_COLUMNS: Final = ("gene", "symbol", "gene_id", "gene_symbol", "names")
_ID_COLUMNS: Final = ("set_id", "id", "name_id", "term_id")
_EXPRESSION: Final = "expression"
_GMT_COLUMNS: Final = 3  # name, description, at least one gene
_MIN_TEXTS: Final = 2  # of a set that hold a phrase
_MORE_SPECIFIC: Final = 0.7  # share of the texts with a phrase's part that hold all of it, to replace the part
_MIN_SHARE: Final = 0.1  # of the texts of a set that hold a phrase
_PHRASE_WORDS: Final = 4  # at most
_MIN_WORD: Final = 3  # letters of the last word of a phrase
_NUMERALS: Final = {"ii", "iv"}  # that may be the last word all the same: "class ii"
_TABLES: Final = (".tsv", ".csv")


@dataclass(frozen=True, kw_only=True, slots=True)
class SetName:
    """A name that a gene set may get."""

    name: str  # as it is shown
    name_id: str = ""  # its identifier, where it has one
    text: str = ""  # what an encoder reads, where that is not the name


def read_gene_sets(path: Path) -> dict[str, tuple[str, ...]]:
    """Read sets by name: GMT, columns ``set`` and ``gene``, a set a line (name, genes), or one set, a gene a line."""
    kind = table_format(path)
    if kind == ".gmt":
        return {name: genes for name, _, genes in read_gmt(path)}
    rows = [row for _, row in read_rows(path, "gene sets") if not row[0].startswith("#")]
    if kind in _TABLES or (len(rows) > 1 and any(len(row) > 1 for row in rows)):
        return _sets_of_rows(path, rows)
    return {Path(path.name.removesuffix(".gz")).stem: read_gene_list(path)}


def read_gene_list(path: Path) -> tuple[str, ...]:
    """Read a gene a line; blank lines and what begins with ``#`` are left out."""
    genes = tuple(line for line in read_list(path, "a text file") if not line.startswith("#"))
    if not genes:
        raise SourceUnusable(f"{path} holds no gene; give one symbol or identifier a line")
    if wide := next((gene for gene in genes if "\t" in gene or "," in gene), ""):
        raise SourceUnusable(
            f"{path} has several columns ({wide[:40]!r}); a list has one gene a line, a table is named .tsv or .csv"
        )
    return genes


def read_universe(path: Path) -> tuple[tuple[str, ...], tuple[float, ...] | None]:
    """Read the genes that sets were chosen from, and their expression if a table has a column ``expression``."""
    if table_format(path) not in _TABLES:
        return read_gene_list(path), None
    table = read_table(path, "a table of genes")
    of_gene = table.first_of(_GENE_COLUMNS)
    kept = [row for row in table.rows if row.get(of_gene)]
    if not kept:
        raise SourceUnusable(f"{path} has no column 'gene' with a gene; a universe is a gene a line, or such a table")
    genes = tuple(row[of_gene] for row in kept)
    if _EXPRESSION not in table.columns:
        return genes, None
    try:
        values = tuple(float(row[_EXPRESSION]) for row in kept)
    except ValueError as error:
        raise SourceUnusable(f"{path}: the expression of a gene is no number: {error}") from error
    if not all(map(math.isfinite, values)):
        raise SourceUnusable(f"{path}: the expression of a gene is not finite; leave the gene out")
    return genes, values


def read_gmt(path: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    """Read name, description and genes of each set of a GMT file, columns set apart by tabs."""
    rows: dict[str, tuple[str, str, tuple[str, ...]]] = {}
    for number, line in enumerate(read_text(path, "a GMT file").split("\n"), start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) < _GMT_COLUMNS or not cells[0]:
            raise SourceUnusable(
                f"line {number} of {path} has {len(cells)} columns; a set is its name, a description and its genes, "
                "set apart by tabs"
            )
        if cells[0] in rows:
            raise SourceUnusable(f"line {number} of {path} names {cells[0]!r} again; give every set a name of its own")
        rows[cells[0]] = (cells[0], cells[1], tuple(cell for cell in cells[2:] if cell))
    if not rows:
        raise SourceUnusable(f"{path} holds no set; a line is a name, a description and genes, set apart by tabs")
    return list(rows.values())


def read_vocabulary(path: Path) -> tuple[SetName, ...]:
    """Read names of gene sets: those of a GMT file, read as words, of a table's column ``name``, or a name a line."""
    kind = table_format(path)
    table = read_table(path, "a table of names") if kind in _TABLES else None
    if kind == ".gmt":
        found = _of_codes([name for name, _, _ in read_gmt(path)])
    elif table and "name" in table.columns:
        name_id = table.first_of(_ID_COLUMNS)
        found = [SetName(name=row["name"], name_id=row.get(name_id, "")) for row in table.rows if row["name"]]
    elif table and len(table.columns) > 1:
        raise SourceUnusable(f"{path} has no column 'name' ({table}); name it so")
    else:
        found = _of_codes(read_list(path, "a text file"))
    kept = {one.name: one for one in found if any(char.isalnum() for char in one.name)}
    if not kept:
        raise SourceUnusable(f"{path} holds no name; give one a line, a GMT file, or a table with a column 'name'")
    return tuple(kept.values())


def stored_vocabulary(store: Store) -> tuple[SetName, ...]:
    """Give the names of the GO terms and gene groups that a store holds; not which genes have them."""
    table = store.table("annotations").select(["vocabulary", "term_id", "term"])
    chosen = table.filter(pc.is_in(table["vocabulary"], pc.cast(list(VOCABULARIES), "string")))
    names = {row["term"]: row["term_id"] for row in chosen.to_pylist()}
    return tuple(SetName(name=name, name_id=names[name]) for name in sorted(names) if name.strip())


def shared_phrases(texts: Sequence[str], *, left_out: frozenset[str] = frozenset()) -> list[str]:
    """Words and phrases of up to four words that two texts or more, and a tenth of them, hold; sorted."""
    counts = Counter(phrase for text in texts for phrase in set(_phrases(text, left_out)))
    least = max(_MIN_TEXTS, _MIN_SHARE * len(texts))
    kept = {phrase: count for phrase, count in counts.items() if count >= least}
    parts = {
        part
        for phrase, count in kept.items()
        for part in _parts(phrase.split(" "))
        if count >= _MORE_SPECIFIC * kept.get(part, np.inf)
    }
    return sorted(kept.keys() - parts)


def _parts(words: Sequence[str]) -> Iterator[str]:
    """Words that follow one another, but for all of them."""
    for length in range(1, len(words)):
        yield from (" ".join(words[start : start + length]) for start in range(len(words) - length + 1))


def _phrases(text: str, left_out: frozenset[str]) -> Iterator[str]:
    """Phrases without stop words but for an "of" between others, that begin and end with a word that says something."""
    inside, at_ends = stop_words() - {"of"}, {"of"} | gene_stop_words() - {"protein"}
    kept = " ".join(sentence for sentence in split_sentences(text) if sentence not in left_out)
    for words in map(split_words, split_clauses(kept)):
        for start, first in enumerate(words):
            if first in at_ends or first in _NUMERALS or first.isdigit():
                continue
            for end, last in enumerate(words[start : start + _PHRASE_WORDS], start + 1):
                if last in inside:
                    break
                if last not in at_ends and (len(last) >= _MIN_WORD or last in _NUMERALS):
                    yield " ".join(words[start:end])


def _of_codes(names: Sequence[str]) -> list[SetName]:
    """Names with the words that are in them: ``HALLMARK_APOPTOSIS`` is read as apoptosis."""
    words = [re.sub(r"_+", " ", name).split() if " " not in name else [name] for name in names]
    first = {each[0] for each in words if each}
    cut = int(len(first) == 1 and len(names) > 1 and all(len(each) > 1 for each in words))
    return [SetName(name=name, text=" ".join(each[cut:])) for name, each in zip(names, words, strict=True)]


FORMS: Final = (
    "taken are .gmt; a table with the columns set (or cluster) and gene; a set a line, its name and then its genes"
)


def _sets_of_rows(path: Path, rows: Sequence[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    table = read_table(path, "a table of gene sets")
    of_set, of_gene = table.first_of(_SET_COLUMNS), table.first_of(_GENE_COLUMNS)
    is_wide = not of_set and not of_gene and len({row[0] for row in rows}) == len(rows)
    if is_wide and all(row[0] and any(row[1:]) for row in rows):
        return {row[0]: tuple(dict.fromkeys(filter(None, row[1:]))) for row in rows}
    if not of_set or not of_gene:
        raise SourceUnusable(f"{path} has the columns {table}; {FORMS}; and a gene a line, named .txt")
    sets: dict[str, dict[str, None]] = {}
    for row in table.rows:
        if row[of_set] and row[of_gene]:
            sets.setdefault(row[of_set], {})[row[of_gene]] = None
    if not sets:
        raise SourceUnusable(f"{path} holds {counted(0, 'gene')}; a row is a set and one of its genes")
    return {name: tuple(genes) for name, genes in sets.items()}
