"""New stores from old ones: another release of the source, more encoders, vectors that were made elsewhere."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genekb.builder.assemble import (
    BuildResult,
    MixedVectors,
    Vectors,
    assemble,
    content_of,
    kept_names,
    known_text_ids,
    unchanged_tables,
)
from genekb.builder.diff import Changes, find_changes
from genekb.builder.engine import LOCAL, EncodingJob, Engine
from genekb.builder.plan import (
    BuildConfig,
    Estimate,
    Loader,
    Plan,
    distinct_texts,
    estimate_encoding,
    load_vectors,
    plan_build,
    store_content,
)
from genekb.core.errors import CoverageTooLow, NotAvailable, SourceUnusable
from genekb.core.progress import Progress, progress
from genekb.encoders import Encoder, EncoderSpec
from genekb.encoders.base import GeneVectors
from genekb.encoders.imported.vectors import ForeignVectors, Keys, foreign_spec, is_number
from genekb.encoders.kinds import kind_of
from genekb.genes.coverage import loss_reason
from genekb.genes.resolve import Resolution
from genekb.genes.texts import find_template
from genekb.schema import IntArray, numbers
from genekb.sources.base import SourceTables
from genekb.store.files import check_files, recall_place
from genekb.store.reader import Store

log = logging.getLogger(__name__)
_MIN_AGREEING = 0.95  # of keys that are numbers, to be taken for GeneIDs


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdatePlan:
    """What an update will do."""

    plan: Plan  # texts of the new store
    config: BuildConfig  # how it is built
    changes: Changes  # genes and texts that differ from the old store
    n_to_encode: Mapping[str, int]  # by encoder_id, how many distinct texts it has to encode


def plan_update(
    store: Store,
    source: SourceTables,
    *,
    name: str | None = None,
    only_names: tuple[str, ...] | None = None,
    encoders: Sequence[str] | None = None,
    config: BuildConfig | None = None,
) -> UpdatePlan:
    """Compare a store with a source and count the texts that are new.

    Parameters
    ----------
    store
        Its template and its choice of genes are applied to the source.
    name
        ``NAME@RELEASE`` of the new store; the old name and the release of the source if left out.
    only_names
        Names that limit the genes with a text; those of the old store if left out.
    encoders
        Encoders that the new store keeps; all if left out.
    config
        How encoders are opened (device, threads, base_url, trust_remote_code) and the engine; the rest follows from the
        store.

    Raises
    ------
    SourceUnusable
        If the source lacks the species of the store, or the old list of names was not kept.
    """
    missing = set(store.manifest.taxa) - set(source.genes["tax_id"].unique().to_pylist())
    if missing:
        raise SourceUnusable(
            f"the source has no gene of taxon {min(missing)}, which {store.store_id} has; give `taxon`"
        )
    config = _inherited_config(store, config, name=name, only_names=only_names)
    plan = plan_build(source, config)
    new = {"genes": source.genes, "names": source.names, "texts": plan.texts}
    changes = find_changes({key: store.table(key) for key in new}, new)
    wanted = set(plan.texts["text_id"].to_pylist())
    n_to_encode = {}
    for encoder_id in _chosen(store, encoders):
        kind = store.manifest.kind(encoder_id)
        if not kind.is_imported:
            n_to_encode[encoder_id] = len(wanted - known_text_ids(store.folder / "embeddings" / encoder_id))
    return UpdatePlan(plan=plan, config=config, changes=changes, n_to_encode=n_to_encode)


def update(
    store: Store,
    source: SourceTables,
    plan: UpdatePlan,
    *,
    home: Path | None = None,
    encoders: Sequence[str] | None = None,
    progress: Progress = progress,
) -> BuildResult:
    """Write a store of a new source; a text whose vector the old store has is not encoded again.

    Fitted encoders are not fitted again.

    Parameters
    ----------
    plan
        From :func:`plan_update`, with the same store, source and encoders.

    Raises
    ------
    NotAvailable
        If a text is new and its encoder is not on this machine.
    StoreCorrupt
        If an encoder is not the one that made the vectors.
    """
    for encoder_id in _chosen(store, encoders):  # the new manifest must not bless damage
        check_files(store.folder, store.manifest, prefix=f"embeddings/{encoder_id}/")
    vectors = [_reused(store, encoder_id, source=source, config=plan.config) for encoder_id in _chosen(store, encoders)]
    content = store_content(source, plan.config, plan=plan.plan, parent=store.manifest.digest)
    content = replace(content, table_files=unchanged_tables(store, content.tables))
    dtype = plan.config.vector_dtype
    with plan.config.open_engine() as engine:
        return assemble(content, vectors, home=home, vector_dtype=dtype, progress=progress, engine=engine)


def estimate_update(store: Store, plan: UpdatePlan) -> dict[str, Estimate]:
    """Time and size of what an update will encode, by encoder_id, without encoders behind an API.

    Raises ``NotAvailable``, ``StoreCorrupt``: see :func:`update`.
    """
    texts, config = distinct_texts(plan.plan.texts), plan.config
    return {
        encoder_id: estimate_encoding(
            partial(_reopen, config, store, encoder_id), texts, n_texts=n_texts, dtype=config.vector_dtype
        )
        for encoder_id, n_texts in plan.n_to_encode.items()
        if n_texts and not store.manifest.kind(encoder_id).is_remote
    }


def _reopen(config: BuildConfig, store: Store, encoder_id: str, _: Sequence[str]) -> Encoder:
    return config.open_encoder(store, encoder_id)


def add_encoders(
    store: Store,
    models: Sequence[str],
    *,
    load: Loader,
    engine: Engine = LOCAL,
    home: Path | None = None,
    progress: Progress = progress,
) -> BuildResult:
    """Write the store again with more encoders; the files of tables and vectors that it has are shared.

    Returns the new store; the old one where it has all these encoders already. Raises ``NotAvailable`` if an encoder is
    not on this machine.
    """
    have = set(store.manifest.encoders)
    corpus = distinct_texts(store.table("texts"))
    specs = [EncoderSpec.from_dict(store.manifest.recipe(encoder_id)) for encoder_id in store.encoder_ids]
    genes: IntArray = np.sort(numbers(store.table("texts")["gene_id"]))
    loaded = load_vectors(models, corpus=corpus, load=_load_here(store, load), gene_ids=genes, have=specs)
    jobs = [job for job in loaded if str(job.spec.encoder_id) not in have]
    if not jobs:
        log.info("%s has %s already", store.store_id, ", ".join(models))
        return BuildResult(folder=store.folder, manifest=store.manifest, n_encoded=0, n_reused=0, n_kept=0)
    dtype = str(store.manifest.options.get("vector_dtype", "float16"))
    return assemble(content_of(store), jobs, home=home, vector_dtype=dtype, progress=progress, engine=engine)


def _load_here(store: Store, load: Loader) -> Loader:
    """Load as `load` does, but open fitted and imported encoders of the store from there."""
    recipes = [entry["recipe"] for entry in store.manifest.encoders.values()]
    own = {str(recipe["name"]) for recipe in recipes if kind_of(recipe).is_fitted or kind_of(recipe).is_imported}

    def load_here(name: str, /, *, corpus: Sequence[str]) -> Encoder:
        return store.encoder(name) if name in own else load(name, corpus=corpus)

    return load_here


def _chosen(store: Store, encoders: Sequence[str] | None) -> list[str]:
    if encoders is None:
        store.check_whole()
        return list(store.manifest.encoders)
    return [store.encoder_id(name) for name in encoders]


def _inherited_config(
    store: Store, config: BuildConfig | None, *, name: str | None, only_names: tuple[str, ...] | None
) -> BuildConfig:
    options = store.manifest.options
    genes, _, limit = store.manifest.selection.partition(", only the genes of ")
    if limit and only_names is None:
        only_names = kept_names(store)
        if only_names is None:
            raise SourceUnusable(f"{store.store_id} did not keep its list of names; give it with `only_genes`")
    return replace(
        config or BuildConfig(name=store.manifest.name),
        name=name or store.manifest.name,
        genes=str(options.get("genes", genes)),
        only_names=only_names,
        template=find_template(str(store.manifest.template["number"])),
        vector_dtype="float32" if options.get("vector_dtype") == "float32" else "float16",
    )


def _reused(store: Store, encoder_id: str, *, source: SourceTables, config: BuildConfig) -> Vectors:
    """Vectors of an encoder for the new store, with the old ones reused where the text is the same."""
    spec = EncoderSpec.from_dict(store.manifest.recipe(encoder_id))
    if spec.kind == "mix":  # of the parts as they are in the new store
        weights = (part.rpartition("=") for part in spec.model_id.split(","))
        return MixedVectors(spec=spec, weights={part: float(weight) for part, _, weight in weights})
    if spec.family.is_imported:
        return _still_known(store, spec, source)
    return EncodingJob(
        spec=spec,
        open=partial(config.open_encoder, store, encoder_id),
        reuse=store.folder / "embeddings" / encoder_id,
        model_folder=recall_place(store.folder.parent, encoder_id),
    )


def _still_known(store: Store, spec: EncoderSpec, source: SourceTables) -> GeneVectors:
    """Keep imported vectors of the genes that the new source still has."""
    table = store.vector_table(str(spec.encoder_id))
    current: IntArray = source.genes["gene_id"].to_numpy()
    kept = np.flatnonzero(np.isin(table.gene_ids, current))
    if not len(kept):
        raise NotAvailable(f"no gene of {spec.encoder_id} is in the new source; leave it out with `encoder`")
    return GeneVectors(spec=spec, gene_ids=table.gene_ids[kept], vectors=table.vectors[table.rows[kept]])


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportResult:
    """A store with vectors that were made elsewhere, and which rows of their file it lacks."""

    build: BuildResult
    encoder_id: str  # of the vectors
    resolution: Resolution  # of the names whose row can be used
    n_genes: int  # genes that have a vector now
    left_out: tuple[tuple[str, str], ...]  # every row without one, as its name and the reason


def import_vectors(
    store: Store,
    foreign: ForeignVectors,
    *,
    name: str,
    home: Path | None = None,
    keys: Keys = "auto",
    min_resolved: float = 0.5,
) -> ImportResult:
    """Write the store again with vectors that were made elsewhere; of several names of one gene the first counts.

    ``keys``: ``gene_id``: numbers among the names are GeneIDs. Else they are only if the file says so, or if 95 % of
    them are the gene of its second column of names. ``min_resolved``: fraction of the names that must map to a gene.
    Raises ``SourceUnusable`` if numbers may be anything, or the store has an encoder of that name; ``CoverageTooLow``
    if too few names map to a gene of the store.
    """
    if name in {entry["recipe"]["name"] for entry in store.manifest.encoders.values()}:
        raise SourceUnusable(f"{store.store_id} has an encoder named {name!r} already; give another `name`")
    resolution = _resolved(store, foreign, keys=keys)
    found = np.flatnonzero(resolution.is_resolved)
    gene_ids, first = np.unique(resolution.gene_ids[found], return_index=True)
    left_out = _left_out(resolution, taken=found[first])
    fraction = len(found) / len(foreign.names)
    if fraction < min_resolved or not len(found):
        examples = "; ".join(f"{name}: {reason}" for name, reason in left_out[:3])
        raise CoverageTooLow(
            f"{len(found)} of {len(foreign.names)} names ({fraction:.1%}) map to a gene of {store.store_id}, "
            f"{min_resolved:.0%} are needed ({examples}); are they of another species? `min_resolved` takes fewer"
        )
    spec = foreign_spec(name=name, vectors=foreign)
    item = GeneVectors(spec=spec, gene_ids=gene_ids, vectors=foreign.vectors[found[first]])
    return ImportResult(
        build=assemble(content_of(store), [item], home=home),
        encoder_id=str(spec.encoder_id),
        resolution=resolution,
        n_genes=len(gene_ids),
        left_out=(*foreign.dropped, *left_out),
    )


def _resolved(store: Store, foreign: ForeignVectors, *, keys: Keys) -> Resolution:
    """Resolve names; numbers are GeneIDs only if the caller, the file or a second column of names says so."""
    resolution = store.resolve(foreign.names)
    is_key = np.array([is_number(name) for name in foreign.names])
    if keys == "gene_id" or foreign.are_gene_ids or not is_key.any():
        return resolution
    fraction = _fraction_meant(store, foreign, resolution, is_key)
    if fraction >= _MIN_AGREEING:
        return resolution
    if is_key.mean() <= 1 - _MIN_AGREEING:
        gene_ids, status = np.where(is_key, 0, resolution.gene_ids), np.where(is_key, "number", resolution.status)
        return replace(resolution, gene_ids=gene_ids, status=status)
    example = ", ".join(np.array(foreign.names)[is_key][:3])
    second = foreign.second_column
    why, way = "no column of symbols says of what", 'names="FILE" with a name per row'
    if second:
        why = f"{fraction:.1%} of them are the GeneID of their {second!r}, {_MIN_AGREEING:.0%} are needed"
        way = f'column="{second}"'
    raise SourceUnusable(
        f"{is_key.sum()} of {len(is_key)} keys of {foreign.file_name} are numbers ({example}), {why}; give "
        'keys="gene_id" if they are GeneIDs, '
        f'{way}, or keys="row" names="FILE" if they are rows of that file'
    )


def _fraction_meant(store: Store, foreign: ForeignVectors, resolution: Resolution, is_key: NDArray[np.bool_]) -> float:
    """Fraction of the numbers that are the GeneID of the name in the second column."""
    if not foreign.second_names:
        return 0.0
    second = store.resolve(foreign.second_names)
    pairs = zip(resolution.gene_ids.tolist(), second.gene_ids.tolist(), strict=True)
    is_meant = [own > 0 and own in second.candidates.get(row, (other,)) for row, (own, other) in enumerate(pairs)]
    return float(np.mean(np.array(is_meant)[is_key]))


def _left_out(resolution: Resolution, *, taken: IntArray) -> tuple[tuple[str, str], ...]:
    """Names without a vector of their own, in order, each with the reason."""
    by_gene = {int(resolution.gene_ids[row]): resolution.names[row] for row in taken.tolist()}
    why = {gene_id: f"GeneID {gene_id} has the vector of {name}" for gene_id, name in by_gene.items()}
    lost = np.setdiff1d(np.arange(len(resolution.names)), taken).tolist()
    return tuple((resolution.names[row], loss_reason(resolution, row, why)) for row in lost)
