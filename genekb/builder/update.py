"""New stores from old ones: another release of the source, more encoders, vectors that were made elsewhere."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from genekb.builder.assemble import (
    ONLY_NAMES,
    BuildResult,
    GeneVectors,
    _unchanged,
    assemble,
    content_of,
    kept_vectors,
    read_kept_names,
)
from genekb.builder.diff import Changes, find_changes
from genekb.builder.encode import EncodingJob, Progress, known_text_ids
from genekb.builder.engine import LOCAL, Engine, EngineConfig
from genekb.builder.engines import open_engine
from genekb.builder.estimate import Estimate, estimate_encoding
from genekb.builder.plan import BuildConfig, Loader, Plan, distinct_texts, load_jobs, plan_build, store_content
from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.encoders import Encoder, EncoderSpec
from genekb.encoders.kinds import kind_of
from genekb.encoders.registry import shuffle_again
from genekb.genes.texts import find_template
from genekb.schema import IntArray
from genekb.sources.base import SourceTables
from genekb.store.integrity import check_files
from genekb.store.notes import recall_place
from genekb.store.reader import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdatePlan:
    """What an update will do, before anything is written."""

    plan: Plan  # plan, config: texts of the new store, and how it is built
    config: BuildConfig
    changes: Changes  # genes and texts that differ from the old store
    n_to_encode: Mapping[str, int]  # by encoder_id, how many distinct texts it has to read


def plan_update(
    store: Store,
    source: SourceTables,
    *,
    name: str | None = None,
    only_names: tuple[str, ...] | None = None,
    encoders: Sequence[str] | None = None,
) -> UpdatePlan:
    """Compare a store with a source and count the texts that are new.

    Parameters
    ----------
    store
        Its template and its choice of genes are applied to the source.
    name
        ``NAME@RELEASE`` of the new store; the old name and the release of the source if left out.
    only_names
        Names that limit the genes with a text; the list that the old store was made with if left out.
    encoders
        Which encoders to carry on; all if left out.

    Raises
    ------
    SourceUnusable
        If the source lacks the species of the store, or the old list of names was not kept.
    """
    missing = set(store.manifest.taxa) - set(source.genes["tax_id"].unique().to_pylist())
    if missing:
        raise SourceUnusable(
            f"the source has no gene of taxon {min(missing)}, which {store.store_id} has; give --taxon"
        )
    config = _inherited_config(store, name=name, only_names=only_names)
    plan = plan_build(source, config)
    new = {"genes": source.genes, "names": source.names, "texts": plan.texts}
    changes = find_changes({key: store.table(key) for key in new}, new)
    wanted = plan.texts["text_id"].unique()
    n_to_encode = {}
    for encoder_id in _chosen(store, encoders):
        kind = kind_of(store.manifest.encoders[encoder_id]["recipe"])
        if not (kind.is_imported or kind.is_permuted):
            known = known_text_ids(store.folder / "embeddings" / encoder_id)
            n_to_encode[encoder_id] = len(wanted) - int(pc.sum(pc.is_in(wanted, known)).as_py() or 0)
    return UpdatePlan(plan=plan, config=config, changes=changes, n_to_encode=n_to_encode)


def update(
    store: Store,
    source: SourceTables,
    plan: UpdatePlan,
    *,
    home: Path | None = None,
    encoders: Sequence[str] | None = None,
    load: "ReopenOptions | None" = None,
    progress: Progress | None = None,
) -> BuildResult:
    """Write a store of a new source; a text whose vector the old store has is not encoded again.

    Fitted encoders are not fitted again. Shuffled ones are dealt out anew from the vectors of their base.

    Parameters
    ----------
    plan
        From :func:`plan_update`, with the same store, source and encoders.
    load
        How encoders are opened.

    Raises
    ------
    NotAvailable
        If a text is new and its encoder is not on this machine.
    StoreCorrupt
        If an encoder is not the one that made the vectors.
    """
    for encoder_id in _chosen(store, encoders):  # what is taken over gets a new digest, which must not bless damage
        check_files(store.folder, store.manifest, prefix=f"embeddings/{encoder_id}/")
    corpus = distinct_texts(plan.plan.texts)
    options = load or ReopenOptions()
    vectors = [
        _carried_on(store, encoder_id, corpus=corpus, source=source, options=options)
        for encoder_id in _chosen(store, encoders)
    ]
    content = store_content(source, plan.config, plan=plan.plan, parent=store.manifest.digest)
    content = replace(content, table_files=_unchanged(store, content.tables))
    with open_engine(
        options.engine, device=options.device, threads=options.threads, trust_remote_code=options.trust_remote_code
    ) as engine:
        items = [replace(item, engine=engine) if isinstance(item, EncodingJob) else item for item in vectors]
        return assemble(content, items, home=home, vector_dtype=plan.config.vector_dtype, progress=progress)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReopenOptions:
    """How the encoders of a store are opened again, see :func:`genekb.encoders.reopen_encoder`, and who encodes."""

    device: str = "auto"
    threads: int | None = None
    base_url: str | None = None
    trust_remote_code: bool = False
    engine: EngineConfig = field(default_factory=EngineConfig)

    def open(self, store: Store, encoder_id: str) -> Encoder:
        """Open an encoder of a store."""
        return store.encoder(
            encoder_id, device=self.device, threads=self.threads, base_url=self.base_url,
            trust_remote_code=self.trust_remote_code,
        )  # fmt: skip


def estimate_update(store: Store, plan: UpdatePlan, load: ReopenOptions) -> dict[str, Estimate]:
    """Time and size of what an update will encode, by encoder_id; encoders behind an API are left out.

    Raises ``NotAvailable``, ``StoreCorrupt``: see :func:`update`.
    """
    texts = distinct_texts(plan.plan.texts)

    def estimate(encoder_id: str, n_texts: int) -> Estimate:
        dtype = plan.config.vector_dtype
        return estimate_encoding(lambda _: load.open(store, encoder_id), texts, n_texts=n_texts, dtype=dtype)

    entries = store.manifest.encoders
    return {
        encoder_id: estimate(encoder_id, n_texts)
        for encoder_id, n_texts in plan.n_to_encode.items()
        if n_texts and not kind_of(entries[encoder_id]["recipe"]).is_remote
    }


def add_encoders(
    store: Store,
    models: Sequence[str],
    *,
    load: Loader,
    engine: Engine = LOCAL,
    home: Path | None = None,
    progress: Progress | None = None,
) -> BuildResult:
    """Write the store again with more encoders; the files of tables and vectors that it has are shared.

    ``engine``: who encodes, see :func:`genekb.builder.engines.open_engine`. Returns the new store; the old one where it
    has all these encoders already. Raises ``NotAvailable`` if an encoder is not on this machine.
    """
    have = set(store.manifest.encoders)
    corpus = distinct_texts(store.table("texts"))
    jobs = [
        job
        for job in load_jobs(models, corpus=corpus, load=_load_here(store, load), engine=engine)
        if str(job.spec.encoder_id) not in have
    ]
    if not jobs:
        log.info("%s has %s already", store.store_id, ", ".join(models))
        return BuildResult(folder=store.folder, manifest=store.manifest, n_encoded=0, n_reused=0, n_kept=0)
    dtype = str(store.manifest.options.get("vector_dtype", "float16"))
    return assemble(content_of(store), [*kept_vectors(store), *jobs], home=home, vector_dtype=dtype, progress=progress)


def _load_here(store: Store, load: Loader) -> Loader:
    """Load as `load` does, but what was fitted on earlier texts of the store, or imported, is taken from it."""
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


def _inherited_config(store: Store, *, name: str | None, only_names: tuple[str, ...] | None) -> BuildConfig:
    options = store.manifest.options
    genes, _, limit = store.manifest.selection.partition(", only the genes of ")
    if limit and only_names is None:
        kept = store.folder / ONLY_NAMES
        if not kept.is_file():
            raise SourceUnusable(f"{store.store_id} did not keep its list of names; give it with --only-genes")
        only_names = read_kept_names(kept)
    return BuildConfig(
        name=name or store.manifest.name,
        genes=str(options.get("genes", genes)),
        only_names=only_names,
        template=find_template(str(store.manifest.template["number"])),
        vector_dtype="float32" if options.get("vector_dtype") == "float32" else "float16",
    )


def _carried_on(
    store: Store, encoder_id: str, *, corpus: Sequence[str], source: SourceTables, options: ReopenOptions
) -> EncodingJob | GeneVectors:
    spec = EncoderSpec.from_dict(store.manifest.encoders[encoder_id]["recipe"])
    open_again = partial(options.open, store, encoder_id)
    if spec.family.is_imported:
        return _still_known(store, spec, source)
    if spec.family.is_permuted:
        shuffled = shuffle_again(open_again(), corpus=corpus)
        return EncodingJob(spec=shuffled.spec, open=lambda: shuffled, partner=shuffled.partner)
    return EncodingJob(
        spec=spec,
        open=open_again,
        reuse=store.folder / "embeddings" / encoder_id,
        place=recall_place(store.folder.parent, encoder_id),
    )


def _still_known(store: Store, spec: EncoderSpec, source: SourceTables) -> GeneVectors:
    """Keep imported vectors of the genes that the new source still has; those of retired genes stay behind."""
    table = store.vector_table(str(spec.encoder_id))
    current: IntArray = source.genes["gene_id"].to_numpy()
    kept = np.flatnonzero(np.isin(table.gene_ids, current))
    if not len(kept):
        raise NotAvailable(f"no gene of {spec.encoder_id} is in the new source; leave it out with --encoder")
    return GeneVectors(spec=spec, gene_ids=table.gene_ids[kept], vectors=table.vectors[table.rows[kept]])
