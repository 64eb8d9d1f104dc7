"""What `genekb` does from the shell, as functions of the same names: ``import genekb as gk; gk.build(...)``.

Stores are taken by name, digest, path or address, or opened; files as text or :class:`pathlib.Path`. The function of a
command that asks about one store is a method of :class:`genekb.Store`: ``kb.search``, ``kb.resolve``, ``kb.sql``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genekb.core.errors import StoreCorrupt
from genekb.core.python import for_python
from genekb.store.reader import Store

if TYPE_CHECKING:
    from genekb.builder.diff import StoreDiff
    from genekb.builder.plan import BuildConfig
    from genekb.encoders.kinds import ModelEntry
    from genekb.query.compare import Comparison
    from genekb.query.export import ExportKind, ExportResult
    from genekb.query.name_set import SetNaming
    from genekb.share.push import Pushed
    from genekb.sources.base import SourceTables
    from genekb.store.verify import Verification

Names = str | Sequence[str]  # one, or several
_ENDINGS = {".vec": "word2vec", ".w2v": "word2vec"}  # others are named as their format


def _several(names: Names | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path).expanduser()


@for_python
def open(reference: str | Path | Store, *, home: str | Path | None = None, trust_remote_code: bool = False) -> Store:
    """Open a store by name, digest, path or address; see :func:`genekb.share.pull.open_store`. An open one is itself.

    Parameters
    ----------
    reference
        ``human@2022-11``, or ``human`` for the newest release; a digest; a folder; ``hf://...``, ``https://...``.
    home
        Artifact home; else ``GENEKB_HOME``, else the user's data folder.
    trust_remote_code
        Whether encoders may run Python code that their models bring.

    Raises
    ------
    NotAvailable
        If there is no such store.
    StoreCorrupt, SchemaMismatch
        If it is damaged or of another schema version.

    Examples
    --------
    >>> import genekb as gk
    >>> kb = gk.open("demo")
    >>> len(kb) > 700, "CD3D" in kb, "T3D" in kb
    (True, True, True)
    """
    from genekb.share.pull import open_store

    if isinstance(reference, Store):
        return reference
    return open_store(reference, home=_path(home), trust_remote_code=trust_remote_code)


@for_python
def build(
    source: "str | Path | SourceTables | None" = None,
    config: "BuildConfig | None" = None,
    *,
    taxon: Names = "human",
    model: Names = "auto",
    name: str | None = None,
    genes: str = "all",
    only_genes: Sequence[str] | None = None,
    template: str = "summary",
    release: str | None = None,
    names: "str | Path | None" = None,
    home: str | Path | None = None,
    **more: Any,
) -> Store:
    """Build a store from NCBI's files or a table, as `genekb build` does, or go on with an interrupted build.

    Parameters
    ----------
    source
        Folder of NCBI's bulk or Entrez files, ``data_report.jsonl``, a table; or what :func:`genekb.read_source` gives;
        the demo table if None.
    config
        All settings in one; no other argument but ``home`` is used then.
    taxon
        Species by name or NCBI taxonomy identifier, one or several.
    model
        Encoder, or several: see ``genekb models``. An empty list builds texts alone.
    name
        ``NAME@RELEASE``; species and release of the source if None.
    genes
        Type of gene that gets a text, such as ``protein-coding``, or ``all``.
    only_genes
        Only genes that these names map to get a text, such as ``adata.var_names``.
    template
        Fields of a gene's text, by name: ``summary``, ``names``, ``symbol``, ``full``, ...
    release
        Of the source; its folder's name if None.
    names
        For a table of symbols: source that gives them their GeneIDs.
    home
        Artifact home.
    more
        Further fields of :class:`genekb.BuildConfig`: ``vector_dtype``, ``device``, ``threads``, ``online``, ...

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
    from genekb.builder.plan import BuildConfig
    from genekb.builder.plan import build as build_store
    from genekb.genes.texts import find_template
    from genekb.sources.base import SourceTables
    from genekb.sources.open import read_source
    from genekb.sources.table import read_demo_table

    tables, taxa = source, _several(taxon)
    if source is None:
        tables = read_demo_table()
    elif not isinstance(source, SourceTables):
        known = None if names is None else read_source(Path(names), taxa=taxa)
        tables = read_source(Path(source).expanduser(), taxa=taxa, release=release, names=known)
    assert isinstance(tables, SourceTables)
    if config is None:
        own = "demo" if source is None else "-".join(each.strip().lower().replace(" ", "-") for each in taxa)
        config = BuildConfig(
            name=name or own, models=tuple(_several(model)), genes=genes, template=find_template(template),
            only_names=None if only_genes is None else tuple(map(str, only_genes)), **more,
        )  # fmt: skip
    return Store(build_store(tables, config, home=_path(home)).folder)


@for_python
def update(
    store: str | Store,
    source: "str | Path | SourceTables",
    *,
    name: str | None = None,
    encoder: Names | None = None,
    taxon: Names | None = None,
    release: str | None = None,
    only_genes: Sequence[str] | None = None,
    home: str | Path | None = None,
) -> Store:
    """Make the store of a new release, as `genekb update` does: only texts that changed are encoded.

    Parameters
    ----------
    store
        The old one.
    source, taxon, release, only_genes, home
        As for :func:`build`; those of the old store if None.
    name
        ``NAME@RELEASE`` of the new one; the old name and the release of the source if None.
    encoder
        Encoders to keep; all if None.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.update("demo", gk.read_demo_table(), name="newer@2").manifest.full_name
    'newer@2'
    """
    from genekb.builder.plan import BuildConfig
    from genekb.builder.update import plan_update
    from genekb.builder.update import update as update_store
    from genekb.sources.base import SourceTables
    from genekb.sources.open import read_source

    kb, encoders = open(store, home=home), _several(encoder) or None
    taxa = _several(taxon) or [str(tax_id) for tax_id in kb.manifest.taxa]
    tables = source if isinstance(source, SourceTables) else read_source(Path(source), taxa=taxa, release=release)
    only = None if only_genes is None else tuple(map(str, only_genes))
    config = BuildConfig(name=kb.manifest.name)
    plan = plan_update(kb, tables, name=name, only_names=only, encoders=encoders, config=config)
    made = update_store(kb, tables, plan, home=_path(home), encoders=encoders)
    return Store(made.folder)


@for_python
def encode(store: str | Store, model: Names, *, home: str | Path | None = None, **more: Any) -> Store:
    """Add encoders to a store, as `genekb encode` does; what it has is kept.

    Parameters
    ----------
    store
        Name, digest, path, or opened.
    model
        Encoder, or several: see ``genekb models``.
    home
        Artifact home.
    more
        Further fields of :class:`genekb.BuildConfig`: ``device``, ``threads``, ``online``, ...

    Examples
    --------
    >>> import genekb as gk
    >>> [each.rpartition("-")[0] for each in gk.encode("demo", "hash-8").encoder_ids][-1]
    'hash-8'
    """
    from genekb.builder.plan import BuildConfig
    from genekb.builder.update import add_encoders

    kb, where = open(store, home=home), _path(home)
    config = BuildConfig(name=kb.manifest.name, **more)
    with config.open_engine() as engine:
        load = config.loader(where)
        made = add_encoders(kb, _several(model), load=load, engine=engine, home=where)
    return Store(made.folder)


@for_python
def import_vectors(
    store: str | Store,
    path: str | Path,
    *,
    name: str,
    keys: str = "auto",
    names: str | Path | None = None,
    column: str | None = None,
    min_resolved: float = 0.5,
    home: str | Path | None = None,
) -> Store:
    """Take vectors of genes that were made elsewhere into a store, as `genekb import` does.

    ``path``, ``names``, ``column``: see :func:`genekb.encoders.imported.vectors.read_foreign`; ``keys``,
    ``min_resolved``: see :func:`genekb.builder.update.import_vectors`. Rows that were left out are logged.

    Examples
    --------
    >>> import json, pathlib
    >>> import genekb as gk
    >>> _ = pathlib.Path("genept.json").write_text(json.dumps({"CD3D": [0.1, 0.9], "MS4A1": [0.8, 0.3]}))
    >>> gk.import_vectors("demo", "genept.json", name="genept").vectors(["CD3D"], encoder="genept").vectors
    array([[0.1, 0.9]], dtype=float32)
    """
    import logging

    from genekb.builder import update as updating
    from genekb.encoders.imported.vectors import read_foreign

    foreign = read_foreign(Path(path), names=_path(names), column=column, keys=keys)  # type: ignore[arg-type]  # checked
    found = updating.import_vectors(
        open(store, home=home), foreign, name=name, home=_path(home), keys=keys, min_resolved=min_resolved  # type: ignore[arg-type]
    )  # fmt: skip
    for gene, reason in found.left_out[:10]:
        logging.getLogger(__name__).warning("left out: %s: %s", gene, reason)
    return Store(found.build.folder)


@for_python
def name_set(
    genes: "Sequence[str] | Mapping[str, Sequence[str]] | str | Path",
    kb: str | Store,
    *,
    vocabulary: Sequence[str] | str | Path | None = None,
    universe: Sequence[str] | None = None,
    encoder: str | None = None,
    random_state: int = 0,
) -> "SetNaming":
    """Name gene sets by the texts of their genes, as `genekb name-set` does, or say that they have no common theme.

    Parameters
    ----------
    genes
        One set, sets by name, or a file of them (a gene a line, .gmt, .tsv).
    kb
        Store.
    vocabulary
        Names to choose from, or a file of them; those of the store's terms, else phrases of the texts, if None.
    universe
        Genes that the sets were chosen from; all with a text if None.
    encoder
        Encoder of the store.
    random_state
        Of the random sets.

    Examples
    --------
    >>> import genekb as gk
    >>> found = gk.name_set(["CD3D", "CD3E", "CD3G", "CD2", "CD7"], "demo", vocabulary=["T cell", "B cell"])
    >>> found.sets[0].names[0].name
    'T cell'
    """
    from genekb.query.gene_sets import SetName, read_gene_sets, read_vocabulary
    from genekb.query.name_set import NameSetConfig, name_sets

    if isinstance(genes, str | Path):
        sets: Mapping[str, Sequence[str]] = read_gene_sets(Path(genes))
    else:
        sets = genes if isinstance(genes, Mapping) else {"genes": list(genes)}
    chosen: Sequence[SetName] | None = None
    if vocabulary is not None:
        is_file = isinstance(vocabulary, str | Path)
        chosen = read_vocabulary(Path(vocabulary)) if is_file else [SetName(name=each) for each in vocabulary]  # type: ignore[arg-type,union-attr]
    config = NameSetConfig(seed=random_state)
    return name_sets(open(kb), sets, vocabulary=chosen, universe=universe, encoder=encoder, config=config)


@for_python
def export(
    kb: str | Store,
    path: str | Path,
    *,
    encoder: str | None = None,
    format: "ExportKind | None" = None,
    genes: Sequence[str] | None = None,
    overwrite: bool = False,
) -> "ExportResult":
    """Write vectors of a store to a file, as `genekb export` does; see :func:`genekb.query.export.export_store`.

    ``format``: by the ending of ``path`` if None; ``genes``: those to write, all with a vector if None.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.export("demo", "vectors.npz", genes=["CD3D", "MS4A1"]).n_genes
    2
    """
    from genekb.query.export import export_store

    store, file = open(kb), Path(path)
    kind: Any = format or _ENDINGS.get(file.suffix, file.suffix[1:])
    gene_ids = None if genes is None else store.gene_ids(list(genes))
    return export_store(store, file, kind=kind, encoder=encoder, gene_ids=gene_ids, overwrite=overwrite)


@for_python
def compare(
    kb: str | Store,
    *,
    encoder: Names | None = None,
    neighbors: int = 10,
    genes: int | None = 10_000,
    vocabulary: Names | None = None,
    random_state: int = 0,
) -> "Comparison":
    """Compare encoders of a store, as `genekb compare` does; see :func:`genekb.query.compare.compare_encoders`.

    ``neighbors``: nearest genes looked at; ``genes``: size of the sample, all if None.

    Examples
    --------
    >>> import genekb as gk
    >>> found = gk.compare(gk.encode("demo", "hash-8"), neighbors=5)
    >>> len(found.pairs), found.pairs[0].neighbor_overlap > found.chance_overlap
    (1, True)
    """
    from genekb.query.compare import compare_encoders

    encoders, vocabularies = _several(encoder) or None, _several(vocabulary) or None
    return compare_encoders(
        open(kb), encoders=encoders, n_neighbors=neighbors, n_genes=genes, seed=random_state, vocabularies=vocabularies
    )


@for_python
def diff(old: str | Store, new: str | Store, *, limit: int = 10) -> "StoreDiff":
    """Compare two stores, as `genekb diff` does: genes, texts word by word, how far vectors moved.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.diff("demo", "demo").changes.text_changed
    ()
    """
    from genekb.builder.diff import diff_stores

    return diff_stores(open(old), open(new), n_examples=limit)


@for_python
def verify(store: str | Path | Store, *, home: str | Path | None = None) -> "Verification":
    """Check every byte, key and vector of a store, as `genekb verify` does; ``StoreCorrupt`` if there is a fault.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.verify("demo").faults
    ()
    """
    from genekb.store.verify import verify_store

    found = verify_store(open(store, home=home).folder)
    if found.faults:
        raise StoreCorrupt(f"{found.store_id}: {'; '.join(map(str, found.faults[:3]))}; build or pull it again")
    return found


@for_python
def pull(
    url: str,
    *,
    encoder: Names | None = None,
    digest: str | None = None,
    public_key: str | None = None,
    home: str | Path | None = None,
) -> Store:
    """Bring a shared store to this machine, as `genekb pull` does, every byte checked; it is opened then.

    ``url``: folder, web server, ``s3://`` or ``hf://``; ``encoder``: those to bring, all if None; ``digest``,
    ``public_key``: what the store must have, and by which key it must be signed.

    Examples
    --------
    >>> import genekb as gk
    >>> _ = gk.push("demo", "shared/demo")
    >>> gk.pull("shared/demo", home="home-of-a-colleague").manifest.full_name
    'demo@1'
    """
    from genekb.share.pull import PullConfig, pull_store
    from genekb.share.remotes import parse_address

    wanted = PullConfig(encoders=tuple(_several(encoder)), digest=digest or "", public_key=public_key or "")
    return Store(pull_store(parse_address(url), wanted, home=_path(home)).folder)


@for_python
def push(store: str | Store, url: str, *, encoder: Names | None = None, home: str | Path | None = None) -> "Pushed":
    """Copy a store to where others can pull it, as `genekb push` does; ``encoder``: those to push, all if None.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.push("demo", "shared/demo").n_sent > 0
    True
    """
    from genekb.share.push import push_store
    from genekb.share.remotes import parse_address

    return push_store(open(store, home=home), parse_address(url), encoders=_several(encoder))


def list_stores(*, home: str | Path | None = None) -> list[str]:
    """List the stores of the home by name, as `genekb list` does.

    Examples
    --------
    >>> import genekb as gk
    >>> "demo@1" in gk.list_stores()
    True
    """
    from genekb.store.home import find_home, list_store_folders

    return [folder.parent.name for folder in list_store_folders(find_home(_path(home)))]


@for_python
def path(store: str, *, home: str | Path | None = None) -> Path:
    """Find the folder of a store, as `genekb path` does; ``NotAvailable`` if there is none.

    Examples
    --------
    >>> import genekb as gk
    >>> (gk.path("demo") / "manifest.json").is_file()
    True
    """
    from genekb.store.home import find_store

    return find_store(store, _path(home)).absolute()


def models() -> "list[ModelEntry]":
    """List the encoders that ``model`` takes, as `genekb models` does.

    Examples
    --------
    >>> import genekb as gk
    >>> {"wcp", "minilm"} <= {model.name for model in gk.models()}
    True
    """
    from genekb.encoders import list_models

    return list_models()
