"""Build a store from a source: genes that get a text, encoders, and the time and size that it will take."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genekb.builder.assemble import BuildResult, MixedVectors, StoreContent, Vectors, assemble
from genekb.builder.engine import EncodingJob, Engine, EngineConfig, open_engine
from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.core.progress import Progress, progress
from genekb.encoders import Encoder, EncoderSpec, load_encoder
from genekb.encoders.imported.terms import fit_terms, mix_spec, parse_mix, with_best
from genekb.genes.texts import Template, build_texts, default_template
from genekb.genes.words import words_table
from genekb.schema import IntArray, literal, numbers
from genekb.sources.base import SourceTables
from genekb.store.home import check_name
from genekb.store.manifest import Manifest
from genekb.store.reader import Store

Loader = Callable[..., Encoder]  # loads an encoder by name; ``corpus`` is what a fitted one is fitted on


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """How a store is built, updated or given more encoders."""

    name: str  # ``NAME@RELEASE``, or ``NAME`` to take the release of the source
    # encoders by registry name, Hugging Face id or local folder; none builds texts alone
    models: tuple[str, ...] = ("auto",)
    # type of gene that gets a text (``protein-coding``), or ``all``; protein-coding of NCBI's files, all of any other
    # source, if None
    genes: str | None = None
    only_names: tuple[str, ...] | None = None  # if given, only genes that one of these names maps to get a text
    template: Template | None = None  # of the texts; that of the source, see ``default_template``, if None
    vector_dtype: Literal["float16", "float32"] = "float16"  # stored type of the vectors
    compute_dtype: str = "auto"  # ``auto``, ``float32`` or ``bfloat16``
    device: str = "auto"  # from here to trust_remote_code: see :func:`genekb.encoders.load_encoder`
    threads: int | None = None
    online: bool = False
    base_url: str | None = None
    trust_remote_code: bool = False
    engine: EngineConfig = field(default_factory=EngineConfig)  # what encodes the texts

    def open_engine(self) -> AbstractContextManager[Engine]:
        """Open the engine that encodes."""
        return open_engine(
            self.engine, device=self.device, threads=self.threads, trust_remote_code=self.trust_remote_code
        )

    def open_encoder(self, store: Store, encoder_id: str) -> Encoder:
        """Open an encoder of a store again."""
        return store.encoder(
            encoder_id,
            device=self.device,
            threads=self.threads,
            base_url=self.base_url,
            trust_remote_code=self.trust_remote_code,
        )

    def loader(self, home: Path | None) -> Loader:
        """Make the function that loads an encoder by name for a corpus."""
        return partial(
            load_encoder,
            device=self.device,
            dtype=self.compute_dtype,
            threads=self.threads,
            online=self.online,
            base_url=self.base_url,
            trust_remote_code=self.trust_remote_code,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a build will do."""

    name: str
    texts: pa.Table
    template: Template
    genes: str  # type of the genes with a text
    selection: str
    n_unique_texts: int


def plan_build(source: SourceTables, config: BuildConfig) -> Plan:
    """Select genes and build their texts.

    Raises ``SourceUnusable`` if no gene of the selection has a usable text.
    """
    name = check_name(config.name if "@" in config.name else f"{config.name}@{source.release}")
    genes = config.genes or source.default_genes
    selected, selection = _select(source, genes, config.only_names)
    template = config.template or default_template(source.annotations)
    texts = build_texts(
        source.genes,
        source.orthologs,
        annotations=source.annotations,
        template=template,
        selected=selected,
    )
    if texts.num_rows == 0:
        raise SourceUnusable(f"no gene of the selection ({selection}) has a usable text; widen `genes` or `only_genes`")
    unique = len(texts["text_id"].unique())
    return Plan(name=name, texts=texts, template=template, genes=genes, selection=selection, n_unique_texts=unique)


def _select(source: SourceTables, genes: str, only_names: tuple[str, ...] | None) -> tuple[set[int] | None, str]:
    from genekb.genes.resolve import resolve_names

    selected: set[int] | None = None
    words = [genes]
    if genes != "all":
        of_type = source.genes.filter(pc.equal(source.genes["type"], literal(genes)))
        if of_type.num_rows == 0:
            types = ", ".join(sorted(filter(None, source.genes["type"].unique().to_pylist())))
            raise SourceUnusable(f"no gene has the type {genes!r}; the source has {types}")
        selected = set(of_type["gene_id"].to_pylist())
    if only_names is not None:
        resolution = resolve_names(only_names, name_table=source.names, gene_ids=source.genes["gene_id"])
        found = set(resolution.gene_ids[resolution.is_resolved].tolist())
        if not found:
            raise SourceUnusable(
                f"none of {len(set(only_names))} names of `only_genes` ({only_names[0][:40]!r}, ...) is "
                "a gene of the source; is the taxon right?"
            )
        selected = found if selected is None else selected & found
        words.append(f"only the genes of {len(set(only_names))} names ({_digest(only_names)})")
    return selected, ", ".join(words)


def _digest(names: Sequence[str]) -> str:
    return sha256("\n".join(sorted(set(names))).encode()).hexdigest()[:12]


def build(
    source: SourceTables, config: BuildConfig, *, home: Path | None = None, progress: Progress = progress
) -> BuildResult:
    """Build a store, or resume one that was interrupted.

    Parameters
    ----------
    source
        Gene records.
    home
        Artifact home, see :func:`genekb.store.home.find_home`.
    progress
        Called after each shard.

    Raises
    ------
    SourceUnusable
        If the selection holds no usable text.
    NotAvailable
        If an encoder or the engine is not on this machine, or the home cannot be written.
    StoreBusy
        If another process builds the same name.
    """
    plan = plan_build(source, config)
    content = store_content(source, config, plan=plan)
    with config.open_engine() as engine:
        corpus = distinct_texts(plan.texts) if config.models else []
        genes: IntArray = np.sort(numbers(plan.texts["gene_id"]))
        jobs = load_vectors(config.models, corpus=corpus, load=config.loader(home), terms=source.terms, gene_ids=genes)
        return assemble(content, jobs, home=home, vector_dtype=config.vector_dtype, progress=progress, engine=engine)


def distinct_texts(texts: pa.Table) -> list[str]:
    """Every text once."""
    distinct: list[str] = texts["text"].unique().to_pylist()
    return distinct


def store_content(source: SourceTables, config: BuildConfig, *, plan: Plan, parent: str = "") -> StoreContent:
    """Collect tables and provenance of the store."""
    options: dict[str, Any] = {"genes": plan.genes, "vector_dtype": config.vector_dtype}
    if config.only_names is not None:
        options["only_names"] = _digest(config.only_names)
    name, _, release = plan.name.partition("@")
    manifest = Manifest(
        name=name,
        release=release,
        sources=tuple(asdict(file) for file in source.files),
        dropped=source.dropped,
        selection=plan.selection,
        template={"number": plan.template.number, "name": plan.template.name},
        licences=(source.licence,),
        parent=parent,
        options=options,
    )
    tables = {name: getattr(source, name) for name in ("genes", "names", "orthologs", "annotations")}
    tables |= {"texts": plan.texts, "words": words_table(plan.texts["text"], numbers(plan.texts["gene_id"]))}
    return StoreContent(manifest=manifest, tables=tables, only_names=config.only_names)


def load_vectors(
    models: Sequence[str],
    *,
    corpus: Sequence[str],
    load: Loader,
    gene_ids: IntArray,
    terms: Mapping[str, pa.Table] | None = None,
    have: Sequence[EncoderSpec] = (),
) -> list[Vectors]:
    """Load the encoders that a store shall have: those of texts, those of annotations, mixes of both.

    ``gene_ids``: genes with a text, ascending. ``terms``: of the source, see
    :func:`genekb.sources.gene_terms.add_gene_terms`. ``have``: encoders of the store so far, which a mix may name.
    Raises ``NotAvailable`` if an encoder, or a part of one, is not on this machine.
    """
    wanted = with_best(models, terms or ())
    made: dict[str, Vectors] = {}
    for model in dict.fromkeys(wanted):
        if not model.startswith(("terms:", "mix:")):
            encoder, folder = load(model, corpus=corpus), Path(model).expanduser()
            model_folder = folder.resolve() if folder.is_dir() else None
            made[model] = job_of(encoder, model_folder=model_folder)
    for model in wanted:
        if model.startswith("terms:"):
            made[model] = fit_terms(model, terms or {}, gene_ids=gene_ids)
    known = {spec.name: spec for spec in (*have, *(item.spec for item in made.values()))}
    for model in wanted:
        if model.startswith("mix:"):
            weights = parse_mix(model)
            lost = [part for part in weights if part not in known]
            if lost:
                raise NotAvailable(
                    f"encoder {model!r} needs {lost[0]!r}, which the store has not (it has: {', '.join(known)}); "
                    "name it as another `model`"
                )
            parts = [known[part] for part in weights]
            by_id = {str(spec.encoder_id): weight for spec, weight in zip(parts, weights.values(), strict=True)}
            made[model] = MixedVectors(spec=mix_spec(model, parts), weights=by_id)
    return [made[model] for model in dict.fromkeys(wanted)]


def job_of(encoder: Encoder, *, model_folder: Path | None) -> EncodingJob:
    """Job of an encoder that is loaded already."""
    return EncodingJob(spec=encoder.spec, open=lambda: encoder, model_folder=model_folder)


SAMPLE: Final = 1024  # texts that a fitted encoder is fitted on
BATCH: Final = 64
ENOUGH_S: Final = 2.0  # of encoding are enough to know the rate


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Cost of encoding on this machine, in one process."""

    n_texts: int  # texts to encode
    seconds: float  # loading, or fitting, and encoding, on an idle machine
    n_bytes: int  # stored vectors, before compression


def estimate_encoding(
    load: Callable[[Sequence[str]], Encoder], texts: Sequence[str], *, n_texts: int | None = None, dtype: str
) -> Estimate:
    """Measure an encoder on texts of every length, for about :data:`ENOUGH_S` seconds.

    The smaller of wall and processor time counts: the first has what else the machine does, the second all threads.
    ``load``: loads the encoder for a corpus. ``texts``: distinct. ``n_texts``: how many are to be encoded; all if None.
    ``dtype``: stored type of the vectors. Raises ``NotAvailable`` if the encoder is not on this machine.
    """
    n_all = len(texts) if n_texts is None else n_texts
    by_length = sorted(texts, key=len)
    sample = by_length[:: max(1, len(by_length) // SAMPLE)]
    encoder, load_s = _timed(load, sample)
    if encoder.spec.family.is_fitted and n_texts is None:  # the first time its libraries were loaded as well
        load_s += _timed(load, sample)[1] * n_all / len(sample)
    encoder.encode(sample[:1])  # what the first text alone needs is not part of the rate
    n_batches = -(-len(sample) // BATCH)
    n_done, started = 0, _clocks()
    for number in range(n_batches):
        batch = sample[number::n_batches]
        encoder.encode(batch)
        n_done += len(batch)
        if _seconds_since(started) > ENOUGH_S:
            break
    encode_s = _seconds_since(started) * n_all / n_done
    n_bytes = n_all * encoder.spec.dim * np.dtype(dtype).itemsize
    return Estimate(n_texts=n_all, seconds=round(load_s + encode_s, 1), n_bytes=n_bytes)


def _timed(load: Callable[[Sequence[str]], Encoder], sample: Sequence[str]) -> tuple[Encoder, float]:
    started = _clocks()
    return load(sample), _seconds_since(started)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _seconds_since(started: tuple[float, float]) -> float:
    return min(now - then for now, then in zip(_clocks(), started, strict=True))
