"""Build a store, update it, add encoders or vectors to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genekb.core.messages import Names, several
from genekb.core.python import for_python
from genekb.files.atomic import user_path
from genekb.share.open import open
from genekb.store.reader import Store

if TYPE_CHECKING:
    from genekb.builder.plan import BuildConfig
    from genekb.sources.base import SourceTables


@for_python
def build(
    source: "str | Path | SourceTables | None" = None,
    config: "BuildConfig | None" = None,
    *,
    taxon: Names = "human",
    model: Names = "auto",
    name: str | None = None,
    genes: str | None = None,
    only_genes: Sequence[str] | None = None,
    template: str | None = None,
    texts: "Sequence[str | Path]" = (),
    annotations: "Sequence[str | Path]" = (),
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
        Encoder, or several: see ``genekb models``; ``auto`` is ``best`` where the source has terms of genes. An empty
        list builds texts alone.
    name
        ``NAME@RELEASE``; species and release of the source if None.
    genes
        Type of gene that gets a text, such as ``protein-coding``, or ``all``; of None ``protein-coding`` for NCBI's
        files, ``all`` for any other source.
    only_genes
        Only genes that these names map to get a text, such as ``adata.var_names``.
    template
        Fields of a gene's text, by name: ``summary``, ``names``, ``symbol``, ``full``, ``functions``, ...; of None
        ``functions`` where the source has texts of functions, else ``summary``.
    texts
        Files with further texts: UniProt's, STRING's, the Alliance's, or a table of ``gene_id`` or ``symbol``, and
        ``text``; or folders of them. Those that lie in the folder of the source are taken, too.
    annotations
        Files with terms of genes, or folders of them, for encoders ``terms:...`` and ``best``, likewise.
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
    from genekb.sources.open import add_knowledge, read_source
    from genekb.sources.table import read_demo_table

    tables, taxa = source, several(taxon)
    more_sources = {
        key: [Path(each).expanduser() for each in listed]
        for key, listed in (("texts", texts), ("annotations", annotations))
    }
    if source is None:
        tables = add_knowledge(read_demo_table(), **more_sources)
    elif not isinstance(source, SourceTables):
        known = None if names is None else read_source(Path(names), taxa=taxa)
        tables = read_source(
            Path(source).expanduser(),
            taxa=taxa,
            release=release,
            names=known,
            texts=[Path(each).expanduser() for each in texts],
        )
    assert isinstance(tables, SourceTables)
    if config is None:
        own = "demo" if source is None else "-".join(each.strip().lower().replace(" ", "-") for each in taxa)
        config = BuildConfig(
            name=name or own, models=tuple(several(model)), genes=genes,
            template=find_template(template) if template else None,
            only_names=None if only_genes is None else tuple(map(str, only_genes)), **more,
        )  # fmt: skip
    return Store(build_store(tables, config, home=user_path(home)).folder)


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

    kb, encoders = open(store, home=home), several(encoder) or None
    taxa = several(taxon) or [str(tax_id) for tax_id in kb.manifest.taxa]
    tables = source if isinstance(source, SourceTables) else read_source(Path(source), taxa=taxa, release=release)
    only = None if only_genes is None else tuple(map(str, only_genes))
    config = BuildConfig(name=kb.manifest.name)
    plan = plan_update(kb, tables, name=name, only_names=only, encoders=encoders, config=config)
    made = update_store(kb, tables, plan, home=user_path(home), encoders=encoders)
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

    kb, where = open(store, home=home), user_path(home)
    config = BuildConfig(name=kb.manifest.name, **more)
    with config.open_engine() as engine:
        load = config.loader(where)
        made = add_encoders(kb, several(model), load=load, engine=engine, home=where)
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

    foreign = read_foreign(Path(path), names=user_path(names), column=column, keys=keys)  # type: ignore[arg-type]  # checked
    found = updating.import_vectors(
        open(store, home=home), foreign, name=name, home=user_path(home), keys=keys, min_resolved=min_resolved  # type: ignore[arg-type]
    )  # fmt: skip
    for gene, reason in found.left_out[:10]:
        logging.getLogger(__name__).warning("left out: %s: %s", gene, reason)
    return Store(found.build.folder)
