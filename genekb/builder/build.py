"""Build a store, update it, add encoders or vectors to it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from genekb.core.messages import Names, Paths, several
from genekb.core.python import for_python
from genekb.files.atomic import user_path
from genekb.share.open import open
from genekb.store.reader import Store

if TYPE_CHECKING:
    from genekb.builder.engine import EngineConfig
    from genekb.builder.plan import BuildConfig
    from genekb.encoders.imported.vectors import Keys
    from genekb.sources.base import SourceTables

TemplateName = Literal[
    "summary", "names", "symbol", "full", "summary-only", "go", "generif", "designations", "functions"
]  # fmt: skip
log = logging.getLogger(__name__)


@for_python
def build(  # noqa: PLR0913 - what people choose, each with its text
    source: "str | Path | SourceTables | None" = None,
    config: "BuildConfig | None" = None,
    *,
    taxon: Names = "human",
    release: str | None = None,
    names: str | Path | None = None,
    texts: Paths = (),
    annotations: Paths = (),
    min_resolved: float = 0.5,
    model: Names = "auto",
    name: str | None = None,
    genes: str | None = None,
    only_genes: Sequence[str] | None = None,
    template: TemplateName | None = None,
    vector_dtype: Literal["float16", "float32"] = "float16",
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    online: bool = False,
    base_url: str | None = None,
    trust_remote_code: bool = False,
    engine: "EngineConfig | None" = None,
    home: str | Path | None = None,
) -> Store:
    """Build a store from NCBI's files or a table, as `genekb build` does, or go on with an interrupted build.

    Parameters
    ----------
    source
        NCBI bulk or Entrez folder, data_report.jsonl, or a table; or a `SourceTables`; the demo table if None.
    config
        All settings of the store in one; no other argument from ``model`` to ``engine`` is used then.
    taxon
        Species by name or NCBI taxonomy id; one or several.
    release
        Release of the source; its folder's name if None.
    names
        Source that gives symbols their GeneIDs, where the source has symbols alone.
    texts
        Further texts of genes: UniProt's .tsv, .dat or .json, STRING's protein.info, the Alliance's gene descriptions,
        or a table with gene_id or symbol, and text; or a folder; one or several. The source is one, too.
    annotations
        Terms of genes for the encoders terms:NAME and best: gene2go, go-basic.obo, gene2pubmed, pairs of genes that
        interact (links*.tsv), gene sets (.gmt); or a folder; one or several. The source is one, too.
    min_resolved
        Fraction of the further texts whose gene has to be one of the source.
    model
        Encoder, see `genekb info --models`; one or several; auto is best where the source has terms. An empty list
        builds texts alone.
    name
        NAME@RELEASE; species and release if None.
    genes
        Type of gene that gets a text, or all; protein-coding of NCBI's files, all of any other source, if None.
    only_genes
        Only genes that these names map to get a text, such as ``adata.var_names``.
    template
        Fields of a gene's text; functions where the source has them, else summary, if None.
    vector_dtype
        Stored type of vectors.
    compute_dtype
        Type that an encoder computes in; auto takes bfloat16 where the hardware has it.
    device
        Where encoders run.
    threads
        CPU threads; all if None.
    online
        Allow the download of an encoder's weights.
    base_url
        Endpoint of an API; else OPENAI_BASE_URL, else OpenAI's.
    trust_remote_code
        Run Python code that came with an encoder's model, where it needs it: such code can do all that you can.
    engine
        What encodes the texts: this process if None, or workers of Ray.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.

    Returns
    -------
    The store, opened.

    Raises
    ------
    SourceUnusable
        If the source cannot be read, or the selection holds no usable text.
    NotAvailable
        If an encoder is not on this machine, or the home cannot be written.
    StoreBusy
        If another process builds the same name.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.build(name="mine@1", model="hash-16", only_genes=["CD3D", "MS4A1", "LYZ"]).manifest.n_texts
    3
    """
    from genekb.builder.plan import build as build_store

    tables = read_tables(
        source,
        taxon=taxon,
        release=release,
        names=names,
        texts=texts,
        annotations=annotations,
        min_resolved=min_resolved,
    )
    config = config or build_config(
        name=name or default_name(source, taxon), model=model, genes=genes, only_genes=only_genes, template=template,
        vector_dtype=vector_dtype, compute_dtype=compute_dtype, device=device, threads=threads, online=online,
        base_url=base_url, trust_remote_code=trust_remote_code, engine=engine,
    )  # fmt: skip
    return Store(build_store(tables, config, home=user_path(home)).folder)


def read_tables(
    source: "str | Path | SourceTables | None",
    *,
    taxon: Names,
    release: str | None = None,
    names: str | Path | None = None,
    texts: Paths = (),
    annotations: Paths = (),
    min_resolved: float = 0.5,
) -> "SourceTables":
    """Read a source of any kind, see :func:`build`; the demo table where none is given."""
    from genekb.sources.base import SourceTables
    from genekb.sources.open import add_knowledge, read_source
    from genekb.sources.table import read_demo_table

    if isinstance(source, SourceTables):
        return source
    taxa = several(taxon)
    more: dict[str, Any] = {"texts": _paths(texts), "annotations": _paths(annotations), "min_resolved": min_resolved}
    if source is None:
        return add_knowledge(read_demo_table(), **more)
    known = read_source(Path(names), taxa=taxa) if names else None
    return read_source(Path(source).expanduser(), taxa=taxa, release=release, names=known, **more)


def _paths(given: Paths) -> list[Path]:
    return [Path(each).expanduser() for each in several(given)]


def default_name(source: object, taxon: Names) -> str:
    """Name of a store by its species; that of the demo table where there is no source."""
    return "demo" if source is None else "-".join(each.strip().lower().replace(" ", "-") for each in several(taxon))


def build_config(
    *,
    name: str,
    model: Names,
    only_genes: Sequence[str] | None,
    template: TemplateName | None,
    engine: "EngineConfig | None",
    **settings: Any,
) -> "BuildConfig":
    """Give the settings of a build, see :func:`build`; ``settings``: further fields, by their names."""
    from genekb.builder.engine import EngineConfig
    from genekb.builder.plan import BuildConfig
    from genekb.genes.texts import find_template

    return BuildConfig(
        name=name, models=tuple(several(model)), template=find_template(template) if template else None,
        only_names=None if only_genes is None else tuple(map(str, only_genes)), engine=engine or EngineConfig(),
        **settings,
    )  # fmt: skip


@for_python
def update(  # noqa: PLR0913 - what people choose, each with its text
    store: str | Store,
    source: "str | Path | SourceTables",
    *,
    name: str | None = None,
    encoder: Names | None = None,
    taxon: Names | None = None,
    release: str | None = None,
    names: str | Path | None = None,
    texts: Paths = (),
    annotations: Paths = (),
    min_resolved: float = 0.5,
    only_genes: Sequence[str] | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    base_url: str | None = None,
    trust_remote_code: bool = False,
    engine: "EngineConfig | None" = None,
    home: str | Path | None = None,
) -> Store:
    """Make the store of a new release, as `genekb update` does: only texts that changed are encoded.

    Parameters
    ----------
    store
        The old one: name, digest, path, or opened.
    source
        The new source, as for `genekb build`.
    name
        NAME@RELEASE of the new store; the source's release if None.
    encoder
        Encoder to carry on; all if None; one or several.
    taxon
        Species by name or NCBI taxonomy id; those of the store if None; one or several.
    release
        Release of the source; its folder's name if None.
    names
        Source that gives symbols their GeneIDs, where the source has symbols alone.
    texts
        Further texts of genes, as for `genekb build`; one or several.
    annotations
        Terms of genes for the encoders terms:NAME and best, as for `genekb build`; one or several.
    min_resolved
        Fraction of the further texts whose gene has to be one of the source.
    only_genes
        Names of the genes that get a text, where the store kept none.
    device
        Where encoders run.
    threads
        CPU threads; all if None.
    base_url
        Endpoint of an API; else OPENAI_BASE_URL, else OpenAI's.
    trust_remote_code
        Run Python code that came with an encoder's model, where it needs it: such code can do all that you can.
    engine
        What encodes the texts: this process if None, or workers of Ray.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.update("demo", gk.read_demo_table(), name="newer@2").manifest.full_name
    'newer@2'
    """
    from genekb.builder.engine import EngineConfig
    from genekb.builder.plan import BuildConfig
    from genekb.builder.update import plan_update
    from genekb.builder.update import update as update_store

    kb, encoders = open(store, home=home), several(encoder) or None
    taxa = taxon or [str(tax_id) for tax_id in kb.manifest.taxa]
    tables = read_tables(
        source,
        taxon=taxa,
        release=release,
        names=names,
        texts=texts,
        annotations=annotations,
        min_resolved=min_resolved,
    )
    only = None if only_genes is None else tuple(map(str, only_genes))
    config = BuildConfig(
        name=kb.manifest.name, device=device, threads=threads, base_url=base_url,
        trust_remote_code=trust_remote_code, engine=engine or EngineConfig(),
    )  # fmt: skip
    plan = plan_update(kb, tables, name=name, only_names=only, encoders=encoders, config=config)
    made = update_store(kb, tables, plan, home=user_path(home), encoders=encoders)
    return Store(made.folder)


@for_python
def encode(
    store: str | Store,
    model: Names,
    *,
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    online: bool = False,
    base_url: str | None = None,
    trust_remote_code: bool = False,
    engine: "EngineConfig | None" = None,
    home: str | Path | None = None,
) -> Store:
    """Add encoders to a store, as `genekb encode` does; what it has is kept.

    Parameters
    ----------
    store
        Name, digest, path, or opened.
    model
        Encoder to add, see `genekb info --models`; one or several.
    compute_dtype
        Type that an encoder computes in; auto takes bfloat16 where the hardware has it.
    device
        Where encoders run.
    threads
        CPU threads; all if None.
    online
        Allow the download of an encoder's weights.
    base_url
        Endpoint of an API; else OPENAI_BASE_URL, else OpenAI's.
    trust_remote_code
        Run Python code that came with an encoder's model, where it needs it: such code can do all that you can.
    engine
        What encodes the texts: this process if None, or workers of Ray.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.

    Examples
    --------
    >>> import genekb as gk
    >>> [each.rpartition("-")[0] for each in gk.encode("demo", "hash-8").encoder_ids][-1]
    'hash-8'
    """
    from genekb.builder.engine import EngineConfig
    from genekb.builder.plan import BuildConfig
    from genekb.builder.update import add_encoders

    kb, where = open(store, home=home), user_path(home)
    config = BuildConfig(
        name=kb.manifest.name, compute_dtype=compute_dtype, device=device, threads=threads, online=online,
        base_url=base_url, trust_remote_code=trust_remote_code, engine=engine or EngineConfig(),
    )  # fmt: skip
    with config.open_engine() as running:
        made = add_encoders(kb, several(model), load=config.loader(where), engine=running, home=where)
    return Store(made.folder)


@for_python
def import_vectors(
    store: str | Store,
    path: str | Path,
    *,
    name: str,
    keys: "Keys" = "auto",
    names: str | Path | None = None,
    column: str | None = None,
    min_resolved: float = 0.5,
    home: str | Path | None = None,
) -> Store:
    """Add vectors of genes that were made elsewhere to a store, as `genekb encode --vectors` does.

    Rows that were left out are logged.

    Parameters
    ----------
    store
        Name, digest, path, or opened.
    path
        File of vectors, see :func:`genekb.encoders.imported.vectors.read_foreign`.
    name
        Name that the vectors get as an encoder.
    keys
        What keys that are numbers are; auto: GeneIDs if a column of symbols agrees, else refused.
    names
        A name per row where the file has none: lines, JSON, or a table.
    column
        Column of a table that holds the names or GeneIDs.
    min_resolved
        Least share of the names that the store must know.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.

    Examples
    --------
    >>> import json, pathlib
    >>> import genekb as gk
    >>> _ = pathlib.Path("genept.json").write_text(json.dumps({"CD3D": [0.1, 0.9], "MS4A1": [0.8, 0.3]}))
    >>> gk.import_vectors("demo", "genept.json", name="genept").vectors(["CD3D"], encoder="genept").vectors
    array([[0.1, 0.9]], dtype=float32)
    """
    from genekb.builder import update as updating
    from genekb.encoders.imported.vectors import read_foreign

    foreign = read_foreign(Path(path), names=user_path(names), column=column, keys=keys)
    found = updating.import_vectors(
        open(store, home=home), foreign, name=name, home=user_path(home), keys=keys, min_resolved=min_resolved
    )
    for gene, reason in found.left_out[:10]:
        log.warning("left out: %s: %s", gene, reason)
    return Store(found.build.folder)
