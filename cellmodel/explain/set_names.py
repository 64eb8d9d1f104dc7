"""Names of clusters' marker genes by their texts: a phrase that fits them, or no common theme."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

import genekb
from cellmodel.core.config import RunConfig
from cellmodel.explain.groups import ClusteredCells
from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.query.name_set import NamedSet, NameSetConfig, name_sets, reading_encoder

log = logging.getLogger(__name__)
_MARKERS: Final = 50  # strongest markers of a group that are named
_LEAST_DRAWS: Final = 200  # random sets


def name_markers(
    found: ClusteredCells,
    kb: genekb.Store,
    markers: Sequence[Sequence[int]],
    *,
    config: RunConfig,
    n_random: int,
) -> tuple[NamedSet | None, ...]:
    """Name the marker genes of each group by phrases of their texts, see :func:`genekb.query.name_set.name_sets`.

    Random sets are drawn from the measured genes, with as many of each tenth of mean expression. Names are read by the
    run's encoder if it was fitted on the store's texts, else by the first that was, else by the run's, else by the
    first that reads. None for each group where none does.

    ``markers``: genes of each group, strongest first.
    """
    ids = found.known.gene_ids
    measured = np.flatnonzero(ids > 0)
    sets = {str(group): ids[list(genes)[:_MARKERS]] for group, genes in enumerate(markers)}
    expression = np.asarray(found.expression.mean(axis=0)).ravel()[measured]
    try:
        encoder_id = _encoder_of_names(kb, config)
        named = name_sets(
            kb,
            {group: genes[genes > 0] for group, genes in sets.items()},
            vocabulary="phrases",
            universe=ids[measured],
            expression=expression.tolist(),
            encoder=encoder_id,
            config=NameSetConfig(n_random=max(n_random, _LEAST_DRAWS), seed=abs(config.seed)),
        )
    except (NotAvailable, SourceUnusable) as error:
        log.info("marker genes are not named: %s", error)
        return tuple(None for _ in markers)
    symbols = {gene: found.gene_names[column] for column, gene in enumerate(ids.tolist()) if gene > 0}
    return tuple(_with_symbols(one, symbols) for one in named.sets)


def _encoder_of_names(kb: genekb.Store, config: RunConfig) -> str:
    own = kb.encoder_id(config.encoder)
    fitted = [each for each in (own, *kb.encoder_ids) if kb.manifest.kind(each).is_fitted]
    return (fitted or ([own] if not kb.manifest.kind(own).not_searched else [reading_encoder(kb)]))[0]


def _with_symbols(named: NamedSet, symbols: Mapping[int, str]) -> NamedSet:
    """Give the genes the names that they have in the cells."""
    theme = tuple(replace(gene, name=symbols[gene.gene_id]) for gene in named.theme)
    return replace(named, theme=theme, others=tuple(symbols[int(gene)] for gene in named.others))
