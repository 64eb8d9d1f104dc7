"""Search genes: by free text (the meaning of their texts, keywords, or both), or by a vector."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genekb.core.addresses import without_secrets
from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.core.messages import counted, did_you_mean, html_table, shorten
from genekb.core.words import check_query, list_unknown, near_words, singular, spellings
from genekb.genes.words import count_words
from genekb.schema import NAMES, FloatArray, IntArray, in_order_of_genes, literal, numbers, rows_of, strings
from genekb.store.manifest import Manifest
from genekb.store.vectors import VectorTable

if TYPE_CHECKING:
    import pandas as pd

    from genekb.encoders import Encoder

Mode = Literal["hybrid", "semantic", "keyword"]
KEYWORD: Final = "keyword"
_NO_WORD: Final = "it knows no word of the query"
# Chosen on half of the names of GO terms in benchmarks.quality.genes.search_go; the other half reports
K1: Final = 0.8  # saturation of repeated words
_OF_KEYWORDS: Final = 0.7  # weight of the words; the encoders have the rest
_OF_FEEDBACK: Final = 0.5  # weight of nearness to the first genes
_N_FEEDBACK: Final = 3  # first genes whose mean vector is searched too


@dataclass(frozen=True, kw_only=True, slots=True)
class KeywordMatches:
    """Match of each gene's words with a query."""

    words: tuple[str, ...]  # distinct words of the query, lower case; of a singular and its plural the first
    gene_ids: IntArray  # (gene,) all genes of the store, ascending
    counts: IntArray  # (gene, word) in the gene's text, symbol and aliases, singular and plural
    scores: NDArray[np.float64]  # (gene,) BM25, 0 where no word occurs
    # genes that the query names, best first: by symbol, by another name, by a symbol among its words (with a digit or
    # two capitals), or by a name in another case
    named: tuple[int, ...]
    # words of the query that no gene has, with those of the genes that are spelt most alike
    unknown: Mapping[str, tuple[str, ...]]

    @property
    def is_readable(self) -> bool:
        """Whether genes have any word of the query, or one that it may be a slip of."""
        return len(self.unknown) < len(self.words) or any(self.unknown.values())

    def of(self, gene_id: int) -> tuple[str, ...]:
        """Words of the query that a gene has."""
        counts = self.counts[np.searchsorted(self.gene_ids, gene_id)]
        return tuple(word for word, count in zip(self.words, counts, strict=True) if count)


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneHit:
    """A gene that a search found, and how."""

    gene_id: int
    symbol: str
    name: str
    text: str
    score: float  # cosine, BM25 or their fusion, see :attr:`SearchResult.score`
    cosine: float | None  # of text and query, by the first encoder; None without one, or without a text
    ranks: Mapping[str, int]  # from 1, in each ranking that has the gene: ``keyword`` and encoder ids
    matched_words: tuple[str, ...]  # words of the query in the gene's text or names
    is_named: bool  # whether the query names the gene, see :class:`KeywordMatches`
    origin: str  # of the text: ``own``, ``ortholog``, or ``none`` where the gene has none


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """Genes that a search found, the best first, and encoders that it could not use; a sequence of its hits."""

    hits: tuple[GeneHit, ...]  # the best first
    score: Literal["cosine", "bm25", "fused"]  # what the hits' scores are
    encoders: tuple[str, ...]  # encoder ids that encoded the query
    skipped: Mapping[str, str]  # encoder ids that did not, with the reason
    unknown_words: Mapping[str, tuple[str, ...]]  # see :class:`KeywordMatches`

    @property
    def shown_score(self) -> Literal["cosine", "bm25"]:
        """Which score people read beside a gene; fused scores order genes, and say nothing alone."""
        return "cosine" if self.encoders else "bm25"

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[GeneHit]:
        return iter(self.hits)

    @overload
    def __getitem__(self, index: int) -> GeneHit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[GeneHit, ...]: ...
    def __getitem__(self, index: int | slice) -> GeneHit | tuple[GeneHit, ...]:
        return self.hits[index]

    def __repr__(self) -> str:
        rows = (f"{self._shown(hit):<8}{hit.symbol:<12}{shorten(hit.text or hit.name, 80)}" for hit in self.hits)
        by = ", ".join(dict.fromkeys((self.score, self.shown_score)))
        return "\n".join([f"{counted(len(self), 'gene')} by {by}", *rows])

    def _repr_html_(self) -> str:
        cells = ([self._shown(hit), hit.symbol, hit.gene_id, shorten(hit.text or hit.name, 120)] for hit in self.hits)
        return html_table([self.shown_score, "symbol", "GeneID", "text"], cells)

    def _shown(self, hit: GeneHit) -> str:
        score = hit.cosine if self.encoders else hit.score
        return "" if score is None else f"{score:.4f}"

    def to_frame(self) -> "pd.DataFrame":
        """Give a row a gene: ``gene_id``, ``symbol``, ``name``, ``score``, ``cosine``, ``matched_words``, ``text``."""
        import pandas as pd

        names = ("gene_id", "symbol", "name", "score", "cosine", "matched_words", "text")
        return pd.DataFrame([{name: getattr(hit, name) for name in names} for hit in self.hits], columns=names)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ranking:
    """Genes in the order of one source, the best first, and their scores there."""

    gene_ids: IntArray
    scores: NDArray[np.float64]


class _Searchable(Protocol):
    """What a search asks of a store, see :class:`genekb.Store`."""

    manifest: Manifest

    @property
    def store_id(self) -> str: ...
    def table(self, name: str) -> pa.Table: ...
    def encoder_id(self, name: str | None = None) -> str: ...
    def encoder(self, name: str | None = None) -> "Encoder": ...
    def vector_table(self, encoder: str | None = None) -> VectorTable: ...
    def gene_ids(self, genes: Sequence[str | int]) -> IntArray: ...
    def __contains__(self, gene: object) -> bool: ...


def search_genes(
    store: _Searchable,
    query: str | FloatArray,
    *,
    encoders: Sequence[str] = (),
    mode: Mode = "hybrid",
    limit: int = 10,
    taxon: int | None = None,
    gene_type: str | None = None,
) -> SearchResult:
    """Find genes by free text, or those whose text's vector is nearest to a vector (dim,), by exact cosine.

    A semantic search ranks by exact cosine, a keyword search by BM25 :cite:`robertson2009bm25`. Several rankings are
    joined by a weighted sum of their scores, each as a share of the best: .7 of keywords, .3 of the encoders; and .5 of
    the cosine with the mean vector of the first three genes of that sum :cite:`rocchio1971feedback`. With keywords, a
    gene that the query names comes first. If no encoder is named, the first that can encode a query on this machine.
    """
    if not isinstance(query, str):
        return _search_vector(
            store, query, encoder=next(iter(encoders), None), limit=limit, kept=_select(store, taxon, gene_type)
        )
    if not any(letter.isalnum() for letter in check_query(query)):
        raise SourceUnusable(f"the query {query!r} is empty; give a few words, e.g. 'T cell receptor signalling'")
    if mode == KEYWORD and encoders:
        raise ValueError("a keyword search uses no encoder; leave out the encoders, or choose another mode")
    kept = _select(store, taxon, gene_type)
    matches = match_keywords(store, without_secrets(query))  # words that no text has are shown
    skipped: dict[str, str] = {}
    rankings: dict[str, _Ranking] = {}
    if mode != KEYWORD:
        rankings = _semantic(store, query, encoders=encoders, kept=kept, matches=matches, skipped=skipped)
    used = tuple(rankings)
    words = matches if mode != "semantic" else None
    if words is not None:
        rankings[KEYWORD] = _by_keyword(words, kept)
    elif not rankings:
        raise NotAvailable(_unreadable(store, matches, skipped))
    joined = next(iter(rankings.values()))
    if len(rankings) > 1:
        joined = _fuse(store, rankings, first=words.named if words else ())
    return SearchResult(
        hits=_hits(store, joined, rankings=rankings, words=words, limit=limit),
        score="fused" if len(rankings) > 1 else "bm25" if words else "cosine",
        encoders=used,
        skipped=skipped,
        unknown_words=matches.unknown,
    )


def _search_vector(
    store: _Searchable, vector: FloatArray, *, encoder: str | None, limit: int, kept: IntArray
) -> SearchResult:
    encoder_id = store.encoder_id(encoder)
    dim = store.vector_table(encoder_id).vectors.shape[1]
    if np.shape(vector) != (dim,):
        raise ValueError(f"the query has shape {np.shape(vector)}, the vectors of this encoder have {dim} values")
    ranking = _by_cosine(store, np.asarray(vector, dtype=np.float32), encoder_id=encoder_id, kept=kept)
    hits = _hits(store, ranking, rankings={encoder_id: ranking}, words=None, limit=limit)
    return SearchResult(hits=hits, score="cosine", encoders=(encoder_id,), skipped={}, unknown_words={})


def find_neighbors(store: _Searchable, gene: str | int, *, encoder: str | None = None, limit: int = 10) -> SearchResult:
    """Find the genes whose texts are nearest to the text of a gene, see :meth:`genekb.Store.neighbors`."""
    wanted = store.gene_ids([gene])
    found = store.vector_table(encoder).select(wanted)
    if not found.has_vector[0]:
        if gene in store:
            raise SourceUnusable(f"gene {gene!r} of {store.store_id} has no text, so it has no neighbors")
        symbols = filter(None, store.table("genes")["symbol"].to_pylist())
        raise SourceUnusable(f"{store.store_id} has no gene {gene!r}{did_you_mean(str(gene), symbols)}")
    near = search_genes(store, found.vectors[0], encoders=[encoder] if encoder else [], limit=limit + 1)
    return replace(near, hits=tuple(hit for hit in near.hits if hit.gene_id != wanted[0])[:limit])


def _unreadable(store: _Searchable, matches: KeywordMatches, skipped: Mapping[str, str]) -> str:
    """Say why no encoder can read a query."""
    reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items()) or "it has none"
    is_known = len(matches.unknown) < len(matches.words)
    advice = "search by keyword" if is_known else f"in no gene text and no name: {list_unknown(matches.unknown)}"
    return f"no encoder of {store.store_id} can read the query ({reasons}); {advice}"


def _select(store: _Searchable, taxon: int | None, gene_type: str | None) -> IntArray:
    """GeneIDs that may be found, ascending."""
    genes = store.table("genes")
    for column, wanted in (("tax_id", taxon), ("type", gene_type)):
        if wanted is None:
            continue
        known = sorted(map(str, genes[column].drop_null().unique().to_pylist()))
        genes = genes.filter(pc.equal(genes[column], wanted))
        if not genes.num_rows:
            raise SourceUnusable(f"{store.store_id} has no gene with {column} {wanted!r}; it has {', '.join(known)}")
    return np.sort(numbers(genes["gene_id"]))


def _semantic(
    store: _Searchable,
    query: str,
    *,
    encoders: Sequence[str],
    kept: IntArray,
    matches: KeywordMatches,
    skipped: dict[str, str],
) -> dict[str, _Ranking]:
    """Rank genes by each encoder; unusable ones go into ``skipped``."""
    rankings = {}
    for encoder_id in map(store.encoder_id, encoders) if encoders else store.manifest.encoders:
        reason = "" if encoders else store.manifest.kind(encoder_id).not_searched
        if not reason:
            try:
                encoded = store.encoder(encoder_id).encode([query])
            except NotAvailable as error:
                if encoders:
                    raise
                reason = str(error)
            else:
                by_characters = matches.is_readable and store.manifest.kind(encoder_id).reads_characters
                reason = "" if encoded.n_tokens[0] or by_characters else _NO_WORD
        if reason:
            skipped[encoder_id] = reason
        else:
            rankings[encoder_id] = _by_cosine(store, encoded.vectors[0], encoder_id=encoder_id, kept=kept)
        if not encoders and reason in {"", _NO_WORD}:
            break
    return rankings


def _by_cosine(store: _Searchable, vector: FloatArray, *, encoder_id: str, kept: IntArray) -> _Ranking:
    table = store.vector_table(encoder_id)
    is_kept = np.isin(table.gene_ids, kept, assume_unique=True)
    gene_ids, scores = table.gene_ids[is_kept], table.cosines(vector)[is_kept].astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    return _Ranking(gene_ids=gene_ids[order], scores=scores[order])


def _by_keyword(words: KeywordMatches, kept: IntArray) -> _Ranking:
    named = np.isin(words.gene_ids, words.named)
    found = np.isin(words.gene_ids, kept, assume_unique=True) & (named | (words.scores > 0))
    return _in_order(words.gene_ids[found], words.scores[found], first=words.named)


def _fuse(store: _Searchable, rankings: Mapping[str, _Ranking], *, first: Sequence[int]) -> _Ranking:
    """Join rankings as :func:`search_genes` does; a gene that one of them lacks gets 0 from it."""
    gene_ids = np.unique(np.concatenate([ranking.gene_ids for ranking in rankings.values()]))
    scores = np.zeros(len(gene_ids))

    def add(ranking: _Ranking, weight: float) -> None:
        best = ranking.scores.max(initial=0)
        if best > 0:
            scores[np.searchsorted(gene_ids, ranking.gene_ids)] += weight * ranking.scores / best

    encoders = [name for name in rankings if name != KEYWORD]
    for name, ranking in rankings.items():
        add(ranking, _OF_KEYWORDS if name == KEYWORD else (1 - _OF_KEYWORDS) / len(encoders))
    nearest = _in_order(gene_ids, scores, first=first).gene_ids[:_N_FEEDBACK]
    for encoder_id in encoders:
        vectors = store.vector_table(encoder_id).select(nearest).vectors
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        mean = (vectors / np.maximum(norms, np.finfo(np.float32).tiny)).mean(axis=0)
        if mean.any():
            add(_by_cosine(store, mean, encoder_id=encoder_id, kept=gene_ids), _OF_FEEDBACK / len(encoders))
    return _in_order(gene_ids, scores, first=first)


def _in_order(gene_ids: IntArray, scores: NDArray[np.float64], *, first: Sequence[int]) -> _Ranking:
    """Order by score, ties by GeneID, after the genes of ``first``."""
    head = np.full(len(gene_ids), len(first))
    for number, gene_id in enumerate(first):
        head[gene_ids == gene_id] = number
    order = np.lexsort((gene_ids, -scores, head))
    return _Ranking(gene_ids=gene_ids[order], scores=scores[order])


def _hits(
    store: _Searchable, joined: _Ranking, *, rankings: Mapping[str, _Ranking], words: KeywordMatches | None, limit: int
) -> tuple[GeneHit, ...]:
    best = joined.gene_ids[:limit]
    rows = rows_of(store.table("genes"), best).to_pylist()
    found = rows_of(store.table("texts"), best).to_pylist()
    return tuple(
        GeneHit(
            gene_id=row["gene_id"],
            symbol=row["symbol"],
            name=row["name"] or "",
            text=text["text"] or "",
            score=float(score),
            cosine=next((float(rankings[key].scores[rank - 1]) for key, rank in ranks.items() if key != KEYWORD), None),
            ranks=ranks,
            matched_words=words.of(row["gene_id"]) if words else (),
            is_named=words is not None and row["gene_id"] in words.named,
            origin=text["origin"] or "none",
        )
        for row, text, score in zip(rows, found, joined.scores, strict=False)
        for ranks in [_ranks(rankings, row["gene_id"])]
    )


def _ranks(rankings: Mapping[str, _Ranking], gene_id: int) -> dict[str, int]:
    rows = {source: np.flatnonzero(ranking.gene_ids == gene_id).tolist() for source, ranking in rankings.items()}
    return {source: row[0] + 1 for source, row in rows.items() if row}


_WORD: Final = re.compile(r"[^\W_]+")  # one tokeniser for texts and queries
_SYMBOL_INSIDE: Final = 3  # rank of a symbol among the words of a query, which is no name as a whole
_SYMBOL: Final = re.compile(r"(?=.*\d|.*[A-Z].*[A-Z])[A-Za-z][\w.-]+")  # CD4, Cd4, INS; no word of plain prose


def match_keywords(store: _Searchable, query: str) -> KeywordMatches:
    """Count the words of a query in every gene's text, symbol and aliases, and score them."""
    first: dict[str, str] = {}
    for word in _split(query):
        first.setdefault(singular(word), word)
    words = list(first.values())
    gene_ids, texts = _gene_texts(store)
    counts = count_words(texts, [spellings(word) for word in words])
    named = _named(store.table("names"), query)
    is_name = any(rank != _SYMBOL_INSIDE for rank in named.values())
    lacking = [] if is_name else [word for word, n in zip(words, counts.sum(axis=0), strict=True) if not n]
    known = sorted({word for text in texts.to_pylist() for word in _split(text)}) if lacking else []
    return KeywordMatches(
        words=tuple(words),
        gene_ids=gene_ids,
        counts=counts,
        scores=score_bm25(counts),
        named=tuple(sorted(named, key=lambda gene_id: (named[gene_id], gene_id))),
        unknown={word: near_words(word, known) for word in lacking},
    )


def _split(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _gene_texts(store: _Searchable) -> tuple[IntArray, pa.StringArray]:
    """All genes, ascending, and what is searched of each: text, symbol and aliases."""
    genes = in_order_of_genes(store.table("genes")).combine_chunks()
    texts = store.table("texts")
    rows = pc.index_in(genes["gene_id"], texts["gene_id"].combine_chunks())
    aliases = pc.binary_join(genes["aliases"], literal(" "))
    columns = (texts["text"].take(rows), genes["symbol"], aliases)
    joined = pc.binary_join_element_wise(*columns, literal(" "), null_handling="skip")
    return numbers(genes["gene_id"]), joined.combine_chunks()


def _named(names: pa.Table, query: str) -> dict[int, int]:
    """Rank of each gene that a query names: by symbol, by another name, by a symbol inside, in another case."""
    whole = query.strip()
    bare = (word.strip(".,;:!?()[]'\"") for word in query.split())
    symbols = {word for word in bare if _SYMBOL.fullmatch(word)}
    alike = pc.equal(pc.utf8_lower(names["name"]), literal(whole.lower()))
    found = names.filter(pc.or_(alike, pc.is_in(names["name"], strings([whole, *sorted(symbols)]))))
    ranks: dict[int, int] = {}
    for name, gene_id, kind in zip(*(found[column].to_pylist() for column in NAMES.names), strict=True):
        is_symbol = kind == "symbol"
        if kind != "ortholog" and (is_symbol or name not in symbols or name.lower() == whole.lower()):
            exact = (1 if is_symbol else 2) if name == whole else 3 if name in symbols else 4 if is_symbol else 5
            ranks[gene_id] = min(exact, ranks.get(gene_id, exact))
    return ranks


def score_bm25(counts: IntArray) -> NDArray[np.float64]:
    r"""BM25 of each text, (text,) >= 0, each word of the query counted once :cite:`robertson2009bm25`.

    .. math:: \sum_w \ln\Big(1 + \frac{N - n_w + 0.5}{n_w + 0.5}\Big) \frac{f_{wd}(k_1 + 1)}{f_{wd} + k_1}

    The 1 inside the logarithm keeps the weight of frequent words positive. Length is not penalized (b = 0): a long
    text is of a gene that much is known of.

    ``counts``: (text, word) of the query's words.
    """
    n_with = (counts > 0).sum(axis=0)
    weight = np.log(1 + (len(counts) - n_with + 0.5) / (n_with + 0.5))  # (word,)
    return np.asarray((weight * counts * (K1 + 1) / (counts + K1)).sum(axis=1), dtype=np.float64)
