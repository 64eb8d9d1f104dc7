"""New stores from old ones: another release of the source, more encoders, vectors that were made elsewhere."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genekb.assembly import ONLY_NAMES, BuildResult, GeneVectors, KeptVectors, StoreContent, assemble
from genekb.builder import BuildConfig, Loader, Plan, distinct_texts, load_jobs, plan_build, store_content
from genekb.changes import Changes, find_changes
from genekb.coverage import loss_reason
from genekb.documents import find_template
from genekb.encoders import Encoder, EncoderSpec
from genekb.encoders.foreign import ForeignVectors, Keys, foreign_spec, is_number
from genekb.encoding import EncodingJob, Progress, known_text_ids
from genekb.engine import LOCAL, Engine, EngineConfig, open_engine
from genekb.errors import CoverageTooLow, NotAvailable, SourceUnusable
from genekb.estimate import Estimate, estimate_encoding
from genekb.resolve import Resolution
from genekb.sources.tables import SourceTables
from genekb.store.integrity import check_files
from genekb.store.places import recall_place
from genekb.store.reader import Store
from genekb.types import IntArray

if TYPE_CHECKING:
    from genekb.encoders.controls import ShuffledEncoder

log = logging.getLogger(__name__)
_MIN_AGREEING = 0.95  # of keys that are numbers, to be taken for GeneIDs


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdatePlan:
    """What an update will do, before anything is written.

    Parameters
    ----------
    plan, config
        Texts of the new store, and how it is built.
    changes
        Genes and texts that differ from the old store.
    n_to_encode
        By encoder_id, how many distinct texts it has to read.
    """

    plan: Plan
    config: BuildConfig
    changes: Changes
    n_to_encode: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportResult:
    """A store with vectors that were made elsewhere, and what became of the rows of their file.

    Parameters
    ----------
    encoder_id
        Of the vectors.
    resolution
        Of the names whose row can be used.
    n_genes
        Genes that have a vector now.
    left_out
        Every row without one, as its name and the reason.
    """

    build: BuildResult
    encoder_id: str
    resolution: Resolution
    n_genes: int
    left_out: tuple[tuple[str, str], ...]


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
        kind = store.manifest.encoders[encoder_id]["recipe"]["kind"]
        if kind not in {"foreign", "shuffled"}:
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

    Raises
    ------
    NotAvailable, StoreCorrupt
        See :func:`update`.
    """
    texts = distinct_texts(plan.plan.texts)

    def estimate(encoder_id: str, n_texts: int) -> Estimate:
        dtype = plan.config.vector_dtype
        return estimate_encoding(lambda _: load.open(store, encoder_id), texts, n_texts=n_texts, dtype=dtype)

    entries = store.manifest.encoders
    return {
        encoder_id: estimate(encoder_id, n_texts)
        for encoder_id, n_texts in plan.n_to_encode.items()
        if n_texts and entries[encoder_id]["recipe"]["kind"] != "api"
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

    Parameters
    ----------
    engine
        Who encodes, see :func:`genekb.engine.open_engine`.

    Returns
    -------
    The new store; the old one where it has all these encoders already.

    Raises
    ------
    NotAvailable
        If an encoder is not on this machine.
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
    return assemble(_same_content(store), [*_kept(store), *jobs], home=home, vector_dtype=dtype, progress=progress)


def import_vectors(
    store: Store,
    foreign: ForeignVectors,
    *,
    name: str,
    home: Path | None = None,
    keys: Keys = "auto",
    min_resolved: float = 0.5,
) -> ImportResult:
    """Write the store again with vectors that were made elsewhere, as an encoder with its own provenance.

    Of several names that stand for one gene the first is taken.

    Parameters
    ----------
    keys
        ``gene_id``: numbers among the names are GeneIDs. Else they are only if the file says so of itself, or if 95 %
        of them are the gene that its second column of names means.
    min_resolved
        Least share of the names that must stand for a gene, in [0, 1].

    Raises
    ------
    SourceUnusable
        If names are numbers that may be anything, or the store has an encoder of that name.
    CoverageTooLow
        If too few names stand for a gene of the store, or none.
    """
    if name in {entry["recipe"]["name"] for entry in store.manifest.encoders.values()}:
        raise SourceUnusable(f"{store.store_id} has an encoder named {name!r} already; give another --name")
    resolution = _resolved(store, foreign, keys=keys)
    found = np.flatnonzero(resolution.is_resolved)
    gene_ids, first = np.unique(resolution.gene_ids[found], return_index=True)
    left_out = _left_out(resolution, taken=found[first])
    share = len(found) / len(foreign.names)
    if share < min_resolved or not len(found):
        examples = "; ".join(f"{name}: {reason}" for name, reason in left_out[:3])
        raise CoverageTooLow(
            f"{len(found)} of {len(foreign.names)} names ({share:.1%}) stand for a gene of {store.store_id}, "
            f"{min_resolved:.0%} are needed ({examples}); are they of another species? --min-resolved takes fewer"
        )
    spec = foreign_spec(name=name, vectors=foreign)
    item = GeneVectors(spec=spec, gene_ids=gene_ids, vectors=foreign.vectors[found[first]])
    return ImportResult(
        build=assemble(_same_content(store), [*_kept(store), item], home=home),
        encoder_id=str(spec.encoder_id),
        resolution=resolution,
        n_genes=len(gene_ids),
        left_out=(*foreign.dropped, *left_out),
    )


def _resolved(store: Store, foreign: ForeignVectors, *, keys: Keys) -> Resolution:
    """Resolve names; numbers are GeneIDs only if the caller, the file or a second column of names says so.

    Raises
    ------
    SourceUnusable
        If none does, and more than a few names are numbers.
    """
    resolution = store.resolve(foreign.names)
    is_key = np.array([is_number(name) for name in foreign.names])
    if keys == "gene_id" or foreign.are_gene_ids or not is_key.any():
        return resolution
    share = _share_meant(store, foreign, resolution, is_key)
    if share >= _MIN_AGREEING:
        return resolution
    if is_key.mean() <= 1 - _MIN_AGREEING:
        gene_ids, status = np.where(is_key, 0, resolution.gene_ids), np.where(is_key, "number", resolution.status)
        return replace(resolution, gene_ids=gene_ids, status=status)
    example = ", ".join(np.array(foreign.names)[is_key][:3])
    second = foreign.second_column
    why, way = "no column of symbols says of what", "--names FILE with a name per row"
    if second:
        why = f"{share:.1%} of them are the GeneID of their {second!r}, {_MIN_AGREEING:.0%} are needed"
        way = f"--column {second}"
    raise SourceUnusable(
        f"{is_key.sum()} of {len(is_key)} keys of {foreign.file_name} are numbers ({example}), {why}; give --keys "
        f"gene_id if they are GeneIDs, {way}, or --keys row --names FILE if they are rows of that file"
    )


def _share_meant(store: Store, foreign: ForeignVectors, resolution: Resolution, is_key: NDArray[np.bool_]) -> float:
    """Share of the numbers that are the GeneID of what the second column of names says."""
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


def _load_here(store: Store, load: Loader) -> Loader:
    """Load as `load` does, but what was fitted on earlier texts of the store, or imported, is taken from it."""
    recipes = [entry["recipe"] for entry in store.manifest.encoders.values()]
    own = {str(recipe["name"]) for recipe in recipes if recipe["kind"] in {"lsa", "foreign"}}

    def load_here(name: str, /, *, corpus: Sequence[str]) -> Encoder:
        return store.encoder(name) if name in own else load(name, corpus=corpus)

    return load_here


def _chosen(store: Store, encoders: Sequence[str] | None) -> list[str]:
    if encoders is None:
        store.check_whole()
        return list(store.manifest.encoders)
    return [store.encoder_id(name) for name in encoders]


def _kept_names(path: Path) -> tuple[str, ...]:
    return tuple(filter(None, path.read_text(encoding="utf-8").split("\n")))


def _inherited_config(store: Store, *, name: str | None, only_names: tuple[str, ...] | None) -> BuildConfig:
    options = store.manifest.options
    genes, _, limit = store.manifest.selection.partition(", only the genes of ")
    if limit and only_names is None:
        kept = store.folder / ONLY_NAMES
        if not kept.is_file():
            raise SourceUnusable(f"{store.store_id} did not keep its list of names; give it with --only-genes")
        only_names = _kept_names(kept)
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
    if spec.kind == "foreign":
        return _still_known(store, spec, source)
    if spec.kind == "shuffled":
        shuffled = cast("ShuffledEncoder", open_again()).dealt_among(corpus)  # what a recipe of this kind opens
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


def _kept(store: Store) -> list[KeptVectors]:
    store.check_whole()
    check_files(store.folder, store.manifest)  # what is copied gets a new digest, which must not bless damage
    folder = store.folder / "embeddings"
    return [KeptVectors(folder=folder / key, entry=entry) for key, entry in store.manifest.encoders.items()]


def _unchanged(store: Store, tables: Mapping[str, pa.Table]) -> dict[str, Path]:
    """Files of a store that hold the same tables."""
    listed = {file.path for file in store.manifest.files}
    files = {name: store.folder / f"{name}.parquet" for name in tables if f"{name}.parquet" in listed}
    return {name: path for name, path in files.items() if store.table(name).equals(tables[name])}


def _same_content(store: Store) -> StoreContent:
    manifest = store.manifest
    kept = store.folder / ONLY_NAMES
    tables: dict[str, pa.Table] = {
        name: store.table(name) for name in ("genes", "names", "orthologs", "annotations", "texts")
    }
    return StoreContent(
        name=manifest.full_name,
        tables=tables,
        sources=manifest.sources,
        dropped=manifest.dropped,
        selection=manifest.selection,
        template=manifest.template,
        licences=manifest.licences,
        parent=manifest.digest,
        options=manifest.options,
        table_files=_unchanged(store, tables),
        only_names=_kept_names(kept) if kept.is_file() else None,
    )
