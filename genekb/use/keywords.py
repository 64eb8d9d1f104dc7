"""Words of a query found in the texts and names of genes, weighed by BM25."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from genekb.types import IntArray
from genekb.words import singular, spellings

if TYPE_CHECKING:
    import duckdb

    from genekb.store.reader import Store

K1: Final = 1.2  # how soon repeats of a word stop to count
B: Final = 0.75  # how far a long text is held against its words
_WORDS: Final = r"regexp_extract_all(lower({}), '[\pL\pN]+')"  # one tokeniser for texts and queries
_COUNTS: Final = f"""
with gene_words as materialized (
    select gene_id, {_WORDS.format("concat_ws(' ', text, symbol, array_to_string(aliases, ' '))")} as words
    from genes left join texts using (gene_id)
)
select gene_id, len(words) as n_words,
    list_transform(
        $query::varchar[][], lambda same: len(list_filter(words, lambda word: list_contains(same, word)))
    ) as counts
from gene_words order by gene_id
"""
_NAMED: Final = """
select gene_id, min(case
    when name = $query and kind = 'symbol' then 1
    when name = $query then 2
    when list_contains($symbols::varchar[], name) then 3
    when kind = 'symbol' then 4
    else 5 end) as place
from names
where kind <> 'ortholog'
    and (lower(name) = lower($query) or (kind = 'symbol' and list_contains($symbols::varchar[], name)))
group by gene_id order by place, gene_id
"""
_SYMBOL: Final = re.compile(r"(?=.*\d|.*[A-Z].*[A-Z])[A-Za-z][\w.-]+")  # CD4, Cd4, INS; no word of plain prose


@dataclass(frozen=True, kw_only=True, slots=True)
class KeywordMatches:
    """How well each gene's words fit a query.

    Parameters
    ----------
    words
        Distinct words of the query, in lower case; of a singular and its plural the first.
    gene_ids
        (gene,) all genes of the store, ascending.
    counts
        (gene, word) how often the gene's text, symbol and aliases hold each word, as a singular or a plural.
    scores
        (gene,) BM25, 0 where no word occurs.
    named
        Genes that the query names, the best first: it is their symbol, another of their names, holds their symbol as a
        word with a digit or two capitals, or is one of their names in another case.
    """

    words: tuple[str, ...]
    gene_ids: IntArray
    counts: IntArray
    scores: NDArray[np.float64]
    named: tuple[int, ...]


def match_keywords(store: "Store", query: str) -> KeywordMatches:
    """Count the words of a query in every gene's text, symbol and aliases, and weigh them."""
    import duckdb

    with duckdb.connect() as connection:
        for name in ("genes", "names", "texts"):
            connection.register(name, store.table(name))
        words = _words(connection, query)
        table = connection.sql(_COUNTS, params={"query": [spellings(word) for word in words]}).to_arrow_table()
        symbols = [word for word in map(_bare, query.split()) if _SYMBOL.fullmatch(word)]
        named = connection.execute(_NAMED, {"query": query.strip(), "symbols": symbols}).fetchall()
    counts = table["counts"].combine_chunks().flatten().to_numpy().reshape(-1, len(words))
    return KeywordMatches(
        words=tuple(words),
        gene_ids=table["gene_id"].to_numpy(),
        counts=counts,
        scores=score_bm25(counts, n_words=table["n_words"].to_numpy()),
        named=tuple(gene_id for gene_id, _ in named),
    )


def _bare(word: str) -> str:
    return word.strip(".,;:!?()[]'\"")


def _words(connection: "duckdb.DuckDBPyConnection", query: str) -> list[str]:
    rows = connection.execute(f"select {_WORDS.format('$query')}", {"query": query}).fetchall()
    first: dict[str, str] = {}
    for word in rows[0][0]:
        first.setdefault(singular(word), word)
    return list(first.values())


def score_bm25(counts: IntArray, *, n_words: IntArray) -> NDArray[np.float64]:
    r"""Okapi BM25 of each text for a query, each word of the query counted once :cite:`robertson2009bm25`.

    .. math:: \sum_w \ln\Big(1 + \frac{N - n_w + 0.5}{n_w + 0.5}\Big)
              \frac{f_{wd}(k_1 + 1)}{f_{wd} + k_1(1 - b + b\,|d| / \overline{|d|})}

    The 1 inside the logarithm keeps a word that most texts hold from counting against a text.

    Parameters
    ----------
    counts
        (text, word) how often each word of the query occurs.
    n_words
        (text,) length of each text in words.

    Returns
    -------
    (text,) scores, 0 or more.
    """
    n_texts = len(counts)
    n_with = (counts > 0).sum(axis=0)
    weight = np.log(1 + (n_texts - n_with + 0.5) / (n_with + 0.5))  # (word,)
    mean_length = max(float(n_words.mean()), 1.0) if n_texts else 1.0
    damping = K1 * (1 - B + B * n_words / mean_length)  # (text,)
    return np.asarray((weight * counts * (K1 + 1) / (counts + damping[:, None])).sum(axis=1), dtype=np.float64)
