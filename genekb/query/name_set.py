"""Names of gene sets by the texts of their genes: a common theme, the names that fit it, the genes and sentences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, Literal

import numpy as np

from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.core.messages import counted
from genekb.core.python import for_python
from genekb.core.words import split_sentences
from genekb.encoders import Encoder
from genekb.files.tables import write_table
from genekb.genes.texts import prose_of
from genekb.query.gene_sets import (
    SetName,
    read_gene_sets,
    read_universe,
    read_vocabulary,
    shared_phrases,
    stored_vocabulary,
)
from genekb.query.gene_theme import (
    Genes,
    NameScale,
    Universe,
    check_expression,
    coherence,
    draw_sets,
    find_carriers,
    make_universe,
    resolve_sets,
    scale_names,
    share_reaching,
    universe_of,
)
from genekb.query.knowledge import knowledge_vectors
from genekb.schema import IntArray
from genekb.share.open import open
from genekb.store.reader import Store

SetKnowledge = Literal["real", "shuffled", "masked", "name"]
_MAX_NAME_P: Final = 0.5  # share of random sets whose best name fits them as well, up to which a name is given
_MAX_GENE_P: Final = 0.1  # share of other genes that are as near to the theme, up to which a gene carries it
_MIN_GENES: Final = 3  # with a text; fewer are not named
_DRAWS_KEPT: Final = 64  # compositions of sets whose random sets are kept


@dataclass(frozen=True, kw_only=True, slots=True)
class NameSetConfig:
    """When a set is named, and how much of it is reported."""

    max_p: float = 0.02  # share of random sets that are as coherent, up to which a set has a common theme
    n_random: int = 1000  # random sets; the least p value is 1 / (1 + n)
    n_names: int = 5  # names of a set that are reported, best first
    n_sentences: int = 10  # genes of a set that are reported with a sentence of their text
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.max_p <= 1:
            raise ValueError(f"max_p must lie in (0, 1], got {self.max_p}")
        if self.seed < 0:
            raise ValueError(f"a seed of random sets must be >= 0, got {self.seed}")
        if self.n_random < 2 or min(self.n_names, self.n_sentences) < 1:  # noqa: PLR2004 - a pair
            raise ValueError(f"n_random >= 2, n_names and n_sentences >= 1 are needed, got {self}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FittingName:
    """A name, and how well it fits a set."""

    name: str
    name_id: str  # identifier in the vocabulary; empty where it has none
    z: float  # mean similarity of the genes to the name, in standard errors of a random set of as many genes


@dataclass(frozen=True, kw_only=True, slots=True)
class ThemeGene:
    """A gene of a set, and how near it is to what the others share."""

    name: str  # as it was given
    gene_id: int
    p_value: float  # share of the genes of the universe that are as near
    sentence: str  # of its text, the nearest to the set's name; empty where none was looked for


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedSet:
    """A gene set, its name if it has one, and what speaks for it."""

    set_name: str  # as it was given
    name: str = ""  # best name; empty where there is none
    reason: str = ""  # why there is no name; empty where there is one
    p_value: float | None = None  # share of random sets whose genes are as near to each other; None where not tested
    name_p: float | None = None  # share of random sets whose best name fits as well; None where not tested
    names: tuple[FittingName, ...] = ()  # best first; also of a set without a common theme
    theme: tuple[ThemeGene, ...] = ()  # genes that carry the theme, nearest first; none where the set is not named
    others: tuple[str, ...]  # genes that do not
    unknown: tuple[str, ...]  # names that are not in the store, or ambiguous
    without_text: tuple[str, ...]  # genes of the store that have no vector
    outside: tuple[str, ...]  # genes that are not in the universe


@dataclass(frozen=True, kw_only=True, slots=True)
class SetNaming:
    """Names of gene sets, and what they were made from."""

    sets: tuple[NamedSet, ...]  # in the order given
    store_id: str
    encoder_id: str
    knowledge: SetKnowledge
    vocabulary: str  # where the names come from
    n_names: int  # in the vocabulary
    n_universe: int  # genes from which random sets were drawn


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Namer:
    """All that the sets of one call are named with."""

    universe: Universe
    gene_ids: IntArray  # (gene,) of the universe, ascending
    names: tuple[SetName, ...]
    scale: NameScale
    places: Mapping[str, IntArray] | None  # rows of ``names`` of each set, where a set has names of its own
    config: NameSetConfig
    draw: Callable[[tuple[int, ...]], tuple[np.ndarray, np.ndarray]]  # random sets by their genes of each stratum


def name_sets(
    store: Store,
    sets: Mapping[str, Genes],
    *,
    vocabulary: Sequence[SetName] | Literal["phrases"] | None = None,
    universe: Genes | None = None,
    expression: Sequence[float] | None = None,
    encoder: str | None = None,
    knowledge: SetKnowledge = "real",
    config: NameSetConfig | None = None,
    progress: Callable[[int], None] | None = None,
) -> SetNaming:
    """Name gene sets by the texts of their genes, see :func:`name_set`; one without a common theme is left unnamed.

    A set has a common theme if the vectors of its genes are nearer to each other (mean cosine of the pairs, the mean of
    the universe removed) than those of random sets of the same size. Names are ranked by the mean similarity of the
    genes, standardized over the universe, as a random set of that size has it. Genes that are near to the others carry
    the theme. ``vocabulary``: names, or ``phrases`` of the texts. ``universe``: without one, random sets have as many
    genes of each third of text length. ``expression``: random sets have as many genes of each tenth of it.
    """
    settings = config or NameSetConfig()
    check_expression(universe, expression)
    encoder_id = store.encoder_id(encoder) if encoder else reading_encoder(store)
    known = knowledge_vectors(store, encoder_id, knowledge=knowledge, seed=settings.seed, progress=progress)
    found = resolve_sets(store, sets)
    if found and not any(found.values()):
        raise SourceUnusable(
            f"none of {counted(len(found), 'gene name')} ({', '.join([*found][:3])}) is known to {store.store_id}; are "
            "they symbols or identifiers of its species, one a line?"
        )
    gene_ids, strata = universe_of(store, known.gene_ids, universe, expression)
    rows = np.searchsorted(known.gene_ids, gene_ids)
    drawn_from = make_universe(known.vectors[rows], strata=strata, seed=settings.seed)
    row_of = {gene: row for row, gene in enumerate(gene_ids.tolist())}
    unnamed = [
        _sorted_genes(name, genes, found, row_of=row_of, with_vector=known.gene_ids) for name, genes in sets.items()
    ]
    members = {one.set_name: rows for one, rows in unnamed}
    opened = store.encoder(encoder_id)
    names, places, source = _vocabulary(store, vocabulary, members, gene_ids)
    encoded = opened.encode([one.text or one.name for one in names], progress=progress) if names else None
    vectors = np.empty((0, known.vectors.shape[1]), np.float32) if encoded is None else encoded.vectors
    is_read = np.zeros(0, bool) if encoded is None else encoded.n_tokens > 0
    scale = scale_names(drawn_from, vectors)
    scale.deviation[~is_read] = np.inf  # a text of which the encoder knows no word fits nothing
    draw = lru_cache(_DRAWS_KEPT)(partial(draw_sets, drawn_from, n_random=settings.n_random, seed=settings.seed))
    namer = _Namer(
        universe=drawn_from, gene_ids=gene_ids, names=names, scale=scale, places=places, config=settings, draw=draw
    )
    named = [_name_set(namer, one, rows) for one, rows in unnamed]
    if knowledge == "real":
        named = _with_sentences(store, opened, named, n_genes=settings.n_sentences)
    return SetNaming(
        sets=tuple(named),
        store_id=store.store_id,
        encoder_id=encoder_id,
        knowledge=knowledge,
        vocabulary=source,
        n_names=len(names),
        n_universe=len(gene_ids),
    )


def reading_encoder(store: Store) -> str:
    """First encoder of a store that reads new texts here, without a network; ``NotAvailable`` if there is none."""
    reasons = {each: store.manifest.kind(each).not_searched for each in store.encoder_ids}
    usable = [each for each, reason in reasons.items() if not reason]
    if usable:
        return usable[0]
    listed = "; ".join(f"{each}: {reason}" for each, reason in reasons.items()) or "it has none"
    raise NotAvailable(f"no encoder of {store.store_id} reads names ({listed}); add one (`wcp`) with `genekb encode`")


def _sorted_genes(
    set_name: str, genes: Genes, found: Mapping[str, int], *, row_of: Mapping[int, int], with_vector: IntArray
) -> tuple[NamedSet, IntArray]:
    """Sort the genes of a set by what is known of them: a set without a name, and rows of the universe, ascending."""
    names: dict[int, str] = {}
    left: dict[str, list[str]] = {"unknown": [], "without_text": [], "outside": []}
    for name in dict.fromkeys(map(str, genes)):
        gene_id = found[name]
        if gene_id in row_of:
            names.setdefault(row_of[gene_id], name)
        else:
            why = "outside" if gene_id in with_vector else "without_text"
            left[why if gene_id else "unknown"].append(name)
    rows = sorted(names)
    others, *rest = (tuple(each) for each in ([names[row] for row in rows], *left.values()))
    unnamed = NamedSet(set_name=set_name, others=others, unknown=rest[0], without_text=rest[1], outside=rest[2])
    return unnamed, np.array(rows, dtype=np.int64)


def _vocabulary(
    store: Store,
    given: Sequence[SetName] | Literal["phrases"] | None,
    members: Mapping[str, IntArray],
    gene_ids: IntArray,
) -> tuple[tuple[SetName, ...], dict[str, IntArray] | None, str]:
    """Names to choose from, which of them each set has where that differs, and where they come from."""
    if given is not None and given != "phrases":
        return tuple(given), None, "given"
    if given is None and (stored := stored_vocabulary(store)):
        return stored, None, "names of GO terms and gene groups in the store"
    every = store.table("texts")["text"].to_pylist()
    left_out = store.words(every).boilerplate(every)
    places: dict[str, int] = {}
    of_set = {}
    for name, rows in members.items():
        phrases = shared_phrases([prose_of(text or "") for text in store.texts(gene_ids[rows])], left_out=left_out)
        of_set[name] = np.array([places.setdefault(phrase, len(places)) for phrase in phrases], dtype=np.int64)
    return tuple(SetName(name=phrase) for phrase in places), of_set, "phrases of the texts of each set"


def _name_set(namer: _Namer, unnamed: NamedSet, rows: IntArray) -> NamedSet:
    """Test a set for a common theme, and name it."""
    config, n = namer.config, len(rows)
    if n < _MIN_GENES:
        return replace(unnamed, reason=f"{counted(n, 'gene')} with a text, {_MIN_GENES} are needed")
    scale, names = _names_of(namer, unnamed.set_name)
    coherences, means = namer.draw(tuple(np.bincount(namer.universe.strata[rows]).tolist()))
    p_value = share_reaching(float(coherence(namer.universe.centered[rows].sum(axis=0), n=n)), coherences)
    z, *by_chance = scale.z(np.vstack([namer.universe.vectors[rows].mean(axis=0), means]), n=n, of=len(namer.gene_ids))
    order = np.argsort(-z, kind="stable")[: config.n_names].tolist()
    best = tuple(FittingName(name=names[at].name, name_id=names[at].name_id, z=float(z[at])) for at in order)
    name_p = share_reaching(best[0].z, np.max(by_chance, axis=1)) if best else None
    gene_p, is_carrier = find_carriers(namer.universe, rows, max_p=_MAX_GENE_P)
    found = replace(unnamed, p_value=p_value, name_p=name_p, names=best)
    if p_value > config.max_p or is_carrier.sum() < 2:  # noqa: PLR2004 - one gene shares nothing
        return replace(found, reason="no common theme")
    if name_p is None or name_p > _MAX_NAME_P:
        return replace(found, reason="a common theme, and no name of the vocabulary that fits it")
    given = unnamed.others
    theme = [
        ThemeGene(name=given[at], gene_id=int(namer.gene_ids[rows[at]]), p_value=float(gene_p[at]), sentence="")
        for at in np.argsort(gene_p, kind="stable").tolist()
        if is_carrier[at]
    ]
    others = tuple(name for name, carries in zip(given, is_carrier, strict=True) if not carries)
    return replace(found, name=best[0].name, reason="", theme=tuple(theme), others=others)


def _names_of(namer: _Namer, set_name: str) -> tuple[NameScale, Sequence[SetName]]:
    """Names that a set may get."""
    if namer.places is None:
        return namer.scale, namer.names
    at, scale = namer.places[set_name], namer.scale
    own = NameScale(vectors=scale.vectors[at], mean=scale.mean[at], deviation=scale.deviation[at])
    return own, [namer.names[place] for place in at.tolist()]


def _with_sentences(store: Store, encoder: Encoder, named: list[NamedSet], *, n_genes: int) -> list[NamedSet]:
    """Give the first genes of each theme the sentence of their text that is nearest to the set's name."""
    shown = [gene.gene_id for one in named for gene in one.theme[:n_genes]]
    text = {gene_id: found or "" for gene_id, found in zip(shown, store.texts(shown), strict=True)}
    split = {
        gene_id: [part for part in split_sentences(prose_of(found)) if any(map(str.isalnum, part))]
        for gene_id, found in text.items()
    }
    texts = list(dict.fromkeys([*(part for parts in split.values() for part in parts), *(one.name for one in named)]))
    texts = [text for text in texts if text]
    if not shown:
        return named
    encoded = encoder.encode(texts)
    vectors = dict(zip(texts, encoded.vectors * (encoded.n_tokens > 0)[:, None], strict=True))

    def best(gene: ThemeGene, name: str) -> ThemeGene:
        parts = split[gene.gene_id]
        nearness = [float(vectors[part] @ vectors[name]) for part in parts]
        return replace(gene, sentence=store.cite(text[gene.gene_id], parts[int(np.argmax(nearness))]) if parts else "")

    return [
        replace(one, theme=(*(best(gene, one.name) for gene in one.theme[:n_genes]), *one.theme[n_genes:]))
        for one in named
    ]


_TABLE: Final = (
    *("set", "name", "name_id", "z", "p_value", "name_p", "n_genes", "n_theme", "reason", "theme", "others"),
    *("unknown", "without_text", "outside", "names", "sentences"),
)


def write_names(found: SetNaming, path: Path, *, overwrite: bool = False) -> None:
    """Write a row for each set to a table: genes are set apart by blanks, all else by semicolons."""
    rows = [
        (
            *(one.set_name, one.name, one.names[0].name_id if one.name else "", one.names[0].z if one.name else None),
            *(one.p_value, one.name_p, len(one.theme) + len(one.others), len(one.theme), one.reason),
            *(" ".join(genes) for genes in ([gene.name for gene in one.theme], one.others, one.unknown)),
            *(" ".join(genes) for genes in (one.without_text, one.outside)),
            "; ".join(f"{name.name} ({name.z:.1f})" for name in one.names),
            "; ".join(f"{gene.name}: {gene.sentence}" for gene in one.theme if gene.sentence),
        )
        for one in found.sets
    ]
    write_table(path, _TABLE, rows, overwrite=overwrite)


@for_python
def name_set(
    genes: "Sequence[str] | Mapping[str, Sequence[str]] | str | Path",
    kb: str | Store,
    *,
    vocabulary: Sequence[str] | str | Path | None = None,
    universe: Sequence[str] | str | Path | None = None,
    encoder: str | None = None,
    knowledge: SetKnowledge = "real",
    names: int = 5,
    max_p: float = 0.02,
    random_sets: int = 1000,
    random_state: int = 0,
) -> SetNaming:
    """Name gene sets by the texts of their genes, as `genekb name-set` does, or say that they have no common theme.

    Parameters
    ----------
    genes
        One set, sets by name, or a file: a gene a line; .gmt, a table with columns set and gene, or a set a line, its
        name first.
    kb
        Store.
    vocabulary
        Names to choose from, or a file of them: one a line, .gmt, or .tsv/.csv with a column name; those of the store's
        terms, else phrases of the texts, if None.
    universe
        Genes that the sets were chosen from, or a file of them: one a line, or .tsv/.csv with gene, expression; all
        with a text if None.
    encoder
        Encoder of the store; its first one that reads names here if None.
    knowledge
        Texts of the genes; or a control: permuted texts, texts without symbols of genes and words of the own name, or
        the full name of each gene alone.
    names
        Names of a set, best first.
    max_p
        Share of random sets up to which a set has a theme.
    random_sets
        How many random sets are drawn.
    random_state
        Seed of the random sets.

    Examples
    --------
    >>> import genekb as gk
    >>> found = gk.name_set(["CD3D", "CD3E", "CD3G", "CD2", "CD7"], "demo", vocabulary=["T cell", "B cell"])
    >>> found.sets[0].names[0].name
    'T cell'
    """
    if isinstance(genes, str | Path):
        sets: Mapping[str, Sequence[str]] = read_gene_sets(Path(genes))
    else:
        sets = genes if isinstance(genes, Mapping) else {"genes": list(genes)}
    chosen: Sequence[SetName] | None = None
    if vocabulary is not None:
        is_file = isinstance(vocabulary, str | Path)
        chosen = read_vocabulary(Path(vocabulary)) if is_file else [SetName(name=each) for each in vocabulary]  # type: ignore[arg-type,union-attr]
    if isinstance(universe, str | Path):
        universe, expression = read_universe(Path(universe))
    else:
        expression = None
    config = NameSetConfig(max_p=max_p, n_names=names, n_random=random_sets, seed=random_state)
    return name_sets(
        open(kb), sets, vocabulary=chosen, universe=universe, expression=expression, encoder=encoder,
        knowledge=knowledge, config=config,
    )  # fmt: skip
