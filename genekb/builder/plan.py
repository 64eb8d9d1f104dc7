"""Build a store from a source: which genes get a text, which encoders read it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from genekb.builder.assemble import BuildResult, StoreContent, assemble
from genekb.builder.encode import EncodingJob, Progress
from genekb.builder.engine import LOCAL, Engine, EngineConfig
from genekb.builder.engines import open_engine
from genekb.core.errors import SourceUnusable
from genekb.encoders import Encoder, load_encoder
from genekb.encoders.kinds import asks_for, without_prefix
from genekb.encoders.registry import shuffle_encoder
from genekb.genes.texts import DEFAULT_TEMPLATE, Template, build_texts
from genekb.sources.base import SourceTables
from genekb.store.home import check_name, find_home


class Loader(Protocol):
    """Loads an encoder by name; ``corpus`` is what a fitted one is fitted on."""

    def __call__(self, name: str, /, *, corpus: Sequence[str]) -> Encoder:
        """Load an encoder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """How a store is built.

    Parameters
    ----------
    name
        ``NAME@RELEASE``, or ``NAME`` to take the release of the source.
    models
        Encoders by registry name, Hugging Face id or local folder; none builds texts alone.
    genes
        Type of gene that is given a text (``protein-coding``), or ``all``.
    only_names
        If given, only genes that one of these names stands for are given a text.
    template
        Template of the texts.
    vector_dtype
        Stored type of the vectors.
    compute_dtype
        ``auto``, ``float32`` or ``bfloat16``.
    device, threads, online, base_url, trust_remote_code
        Handed to the encoder, see :func:`genekb.encoders.load_encoder`.
    engine
        Who encodes the texts.
    """

    name: str
    models: tuple[str, ...] = ("auto",)
    genes: str = "all"
    only_names: tuple[str, ...] | None = None
    template: Template = DEFAULT_TEMPLATE
    vector_dtype: Literal["float16", "float32"] = "float16"
    compute_dtype: str = "auto"
    device: str = "auto"
    threads: int | None = None
    online: bool = False
    base_url: str | None = None
    trust_remote_code: bool = False
    engine: EngineConfig = field(default_factory=EngineConfig)

    def open_engine(self) -> AbstractContextManager[Engine]:
        """Give the engine that encodes; it is handed back when the context ends."""
        return open_engine(
            self.engine, device=self.device, threads=self.threads, trust_remote_code=self.trust_remote_code
        )

    def loader(self, home: Path | None) -> Loader:
        """Give the function that loads an encoder by name for a corpus."""
        return partial(
            load_encoder,
            device=self.device,
            dtype=self.compute_dtype,
            threads=self.threads,
            online=self.online,
            base_url=self.base_url,
            cache=find_home(home) / "graphs",
            trust_remote_code=self.trust_remote_code,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a build will do, before anything is written."""

    name: str
    texts: pa.Table
    selection: str
    n_unique_texts: int


def plan_build(source: SourceTables, config: BuildConfig) -> Plan:
    """Decide which genes get a text and which texts need a vector.

    Raises ``SourceUnusable`` if no gene of the selection has a usable text.
    """
    name = check_name(config.name if "@" in config.name else f"{config.name}@{source.release}")
    selected, selection = _select(source, config)
    texts = build_texts(
        source.genes,
        source.orthologs,
        annotations=source.annotations,
        template=config.template,
        selected=selected,
    )
    if texts.num_rows == 0:
        raise SourceUnusable(f"no gene of the selection ({selection}) has a usable text; widen --genes or --only-genes")
    unique = len(texts["text_id"].unique())
    return Plan(name=name, texts=texts, selection=selection, n_unique_texts=unique)


def _select(source: SourceTables, config: BuildConfig) -> tuple[set[int] | None, str]:
    from genekb.genes.resolve import resolve_names

    selected: set[int] | None = None
    words = [config.genes]
    if config.genes != "all":
        of_type = source.genes.filter(pc.equal(source.genes["type"], config.genes))
        if of_type.num_rows == 0:
            types = ", ".join(sorted(filter(None, source.genes["type"].unique().to_pylist())))
            raise SourceUnusable(f"no gene has the type {config.genes!r}; the source has {types}")
        selected = set(of_type["gene_id"].to_pylist())
    if config.only_names is not None:
        resolution = resolve_names(config.only_names, name_table=source.names, gene_ids=source.genes["gene_id"])
        found = set(resolution.gene_ids[resolution.is_resolved].tolist())
        if not found:
            raise SourceUnusable(
                f"none of {len(set(config.only_names))} names of --only-genes ({config.only_names[0][:40]!r}, ...) is "
                "a gene of the source; is the taxon right?"
            )
        selected = found if selected is None else selected & found
        words.append(f"only the genes of {len(set(config.only_names))} names ({_digest(config.only_names)})")
    return selected, ", ".join(words)


def _digest(names: Sequence[str]) -> str:
    return sha256("\n".join(sorted(set(names))).encode()).hexdigest()[:12]


def build(
    source: SourceTables, config: BuildConfig, *, home: Path | None = None, progress: Progress | None = None
) -> BuildResult:
    """Build a store, or go on with one that was interrupted.

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
        jobs = load_jobs(config.models, corpus=distinct_texts(plan.texts), load=config.loader(home), engine=engine)
        return assemble(content, jobs, home=home, vector_dtype=config.vector_dtype, progress=progress)


def distinct_texts(texts: pa.Table) -> list[str]:
    """Give every text once."""
    distinct: list[str] = texts["text"].unique().to_pylist()
    return distinct


def store_content(source: SourceTables, config: BuildConfig, *, plan: Plan, parent: str = "") -> StoreContent:
    """Gather what the store will hold besides vectors."""
    options: dict[str, Any] = {"genes": config.genes, "vector_dtype": config.vector_dtype}
    if config.only_names is not None:
        options["only_names"] = _digest(config.only_names)
    return StoreContent(
        name=plan.name,
        tables={
            "genes": source.genes,
            "names": source.names,
            "orthologs": source.orthologs,
            "annotations": source.annotations,
            "texts": plan.texts,
        },
        sources=tuple(asdict(file) for file in source.files),
        dropped=source.dropped,
        selection=plan.selection,
        template={"number": config.template.number, "name": config.template.name},
        licences=(source.licence,),
        parent=parent,
        options=options,
        only_names=config.only_names,
    )


def load_jobs(
    models: Sequence[str], *, corpus: Sequence[str], load: Loader, engine: Engine = LOCAL
) -> list[EncodingJob]:
    """Load encoders for a corpus of distinct texts; a base that several names need is loaded once.

    Raises ``NotAvailable`` if an encoder is not on this machine.
    """
    loaded: dict[str, Encoder] = {}
    jobs = []
    for model in models:
        base = without_prefix(model, "shuffled")
        if base not in loaded:
            loaded[base] = load(base, corpus=corpus)
        if asks_for(model, "shuffled"):
            shuffled = shuffle_encoder(loaded[base], corpus=corpus)
            jobs.append(EncodingJob(spec=shuffled.spec, open=partial(_same, shuffled), partner=shuffled.partner))
        else:
            folder = Path(base).expanduser()
            place = folder.resolve() if folder.is_dir() else None
            open_again = partial(_same, loaded[base])
            jobs.append(EncodingJob(spec=loaded[base].spec, open=open_again, place=place, engine=engine))
    return jobs


def _same(encoder: Encoder) -> Encoder:
    return encoder
