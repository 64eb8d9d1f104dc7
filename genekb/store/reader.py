"""Read a store: genes, names, texts, vectors; SQL; semantic search. Readers lock nothing; caches lie in the home."""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genekb import schema
from genekb.core.errors import NotAvailable
from genekb.core.messages import Names, html_table, several
from genekb.core.plugins import require
from genekb.core.python import for_python
from genekb.encoders.kinds import stored_name
from genekb.files.atomic import user_path
from genekb.genes.coverage import Coverage, explain_missing_texts, measure_coverage, remedy_of
from genekb.genes.identifiers import resolve_by_table
from genekb.genes.resolve import Resolution, resolve_names
from genekb.genes.species import check_species, count_other_case
from genekb.genes.texts import Section, cite, find_template, text_sections
from genekb.genes.words import TextWords, split_texts
from genekb.schema import FloatArray, IntArray
from genekb.store.files import absent_encoders, check_files, read_columns, read_origin, recall_place
from genekb.store.manifest import Manifest, read_manifest
from genekb.store.vectors import GeneVectorSelection, OnMissing, VectorTable, open_vectors

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

    from genekb.encoders import Encoder
    from genekb.store.search import Mode, SearchResult

CARD: Final = "README.md"


class Store:
    """An opened store, read-only. Opening reads the manifest; tables and vectors are read when first used.

    Parameters
    ----------
    folder
        A store's folder.
    fetch
        Of a remote store: brings the files whose path starts with its argument to the folder.
    trust_remote_code
        Whether :meth:`encoder` may run Python code of a model; nothing else of a store ever runs code.
    in_home
        Whether it lies in a home, where a cache of its vectors is made; else they are read into memory.

    Raises
    ------
    StoreCorrupt, SchemaMismatch
        If the manifest is damaged or of another schema version, or a file is missing or of another size.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fetch: Callable[[str], None] | None = None,
        trust_remote_code: bool = False,
        in_home: bool = True,
    ) -> None:
        self.folder = folder
        self._in_home = in_home
        self._trust_remote_code = trust_remote_code
        self.manifest: Manifest = read_manifest(folder)
        self._bring: Callable[[str], None] = fetch or (lambda _: None)  # the files of a store on this machine are here
        # ids of the encoders that were left where the store was pulled from
        self.not_pulled: tuple[str, ...] = () if fetch else absent_encoders(folder, self.manifest)
        if fetch is None:
            check_files(folder, self.manifest, only_size=True)
        self._table = lru_cache(maxsize=None)(self._read_table)
        self._vector_table = lru_cache(maxsize=None)(self._open_vectors)
        self._resolved = lru_cache(maxsize=4)(self._resolve)  # a run asks for the genes of the cells at each step

    @property
    def store_id(self) -> str:
        """``NAME@RELEASE:digest``, the identity that results carry."""
        return f"{self.manifest.full_name}:{self.manifest.digest[:16]}"

    @property
    def encoder_ids(self) -> tuple[str, ...]:
        """Ids of the encoders that can be used here, in the order of the manifest: all but :attr:`not_pulled`."""
        return tuple(key for key in self.manifest.encoders if key not in self.not_pulled)

    def table(self, name: str) -> pa.Table:
        """Read ``genes``, ``names``, ``orthologs``, ``annotations``, ``texts`` or ``words`` as an Arrow table, once."""
        return self._table(name)

    @property
    def card(self) -> str:
        """Text of the store's card, which its maker wrote; empty where it has none."""
        self._need(CARD)
        is_there = any(file.path == CARD for file in self.manifest.files)
        return (self.folder / CARD).read_text(encoding="utf-8", errors="replace") if is_there else ""

    def _need(self, prefix: str) -> None:
        """Fetch the files whose path starts with ``prefix`` if needed, and compare them with the manifest."""
        self._bring(prefix)
        check_files(self.folder, self.manifest, prefix=prefix)

    def _read_table(self, name: str) -> pa.Table:
        self._need(f"{name}.parquet")
        return read_columns(self.folder / f"{name}.parquet", schema.TABLES[name])

    def resolve(
        self,
        names: Sequence[str],
        *,
        use_orthologs: bool = False,
        use_antibodies: bool = False,
        table: str | Path | None = None,
    ) -> Resolution:
        """Map names to genes, see :func:`genekb.genes.resolve.resolve_names`; ``table``: see ``genes.identifiers``.

        Examples
        --------
        >>> import genekb as gk
        >>> found = gk.open("demo").resolve(["CD3D", "T3D", "no such gene"])
        >>> found.gene_ids.tolist(), found.status.tolist()
        ([915, 915, 0], ['symbol', 'alias', 'unknown'])
        """
        resolve = partial(self._resolved, use_orthologs=use_orthologs, use_antibodies=use_antibodies)
        return resolve_by_table(tuple(map(str, names)), user_path(table), resolve=resolve)

    def _resolve(self, names: tuple[str, ...], **options: bool) -> Resolution:
        table = self.table("names")  # every gene has a name there: its symbol
        return resolve_names(names, name_table=table, gene_ids=table["gene_id"], **options)

    def coverage(self, resolution: Resolution, *, counts: FloatArray | None = None) -> Coverage:
        """Measure how much of the names, and of their counts, has a text here.

        Examples
        --------
        >>> import genekb as gk
        >>> kb = gk.open("demo")
        >>> kb.coverage(kb.resolve(["CD3D", "no such gene"])).share_genes
        0.5
        """
        has_text = np.isin(resolution.gene_ids, schema.numbers(self.table("texts")["gene_id"]))
        template, genes = find_template(str(self.manifest.template["number"])), self.table("genes")
        explain = partial(explain_missing_texts, genes=genes, template=template)
        remedy = remedy_of(self.table("names"), self.manifest.taxa)
        return measure_coverage(resolution, has_text=has_text, counts=counts, explain=explain, remedy=remedy)

    def check_species(self, resolution: Resolution) -> None:
        """Raise ``SpeciesMismatch`` for names that are clearly of another species."""
        check_species(resolution, store_taxa=self.manifest.taxa, name_table=self.table("names"))

    def count_other_case(self, resolution: Resolution) -> int:
        """Count unknown names that are symbols here when case is ignored: a sign of another species."""
        return count_other_case(resolution, self.table("names"))

    def encoder_id(self, name: str | None = None) -> str:
        """Find the id of an encoder of this store by its id or short name; the first one if no name is given.

        Raises
        ------
        NotAvailable
            If the store has no such encoder, or several of that name.
        """
        ids = self.encoder_ids
        if name is None and ids:
            return ids[0]
        name = stored_name(name or "")
        left = self.manifest.encoders_named(name, among=self.not_pulled)
        origin = read_origin(self.folder)
        if left and origin and not self.manifest.encoders_named(name, among=ids):
            raise NotAvailable(f'{left[0]} was not pulled; `genekb pull {origin.url}` with encoder="{name}" brings it')
        return self.manifest.find_encoder(name, among=ids, where=self.store_id, hint="add it with `genekb encode`")

    def gene_encoder_id(self, name: str | None = None) -> str:
        """Find the id of an encoder whose vectors of genes are used and no text is read: a mix comes before others."""
        mixes = (key for key in self.encoder_ids if self.manifest.recipe(key)["kind"] == "mix")
        return self.encoder_id(name or next(mixes, None))

    def check_whole(self) -> None:
        """Raise ``NotAvailable`` if encoders of the store were not pulled."""
        self._bring("")
        origin = read_origin(self.folder)
        if origin and self.not_pulled:
            raise NotAvailable(
                f"{self.store_id} lacks {', '.join(self.not_pulled)} here; bring all of it with `genekb pull "
                f"{origin.url}`, or name the encoders to take with `encoder`"
            )

    def vector_table(self, encoder: str | None = None) -> VectorTable:
        """All vectors of an encoder; memory-mapped in a home, where nothing is copied."""
        return self._vector_table(self.encoder_id(encoder))

    def _open_vectors(self, encoder_id: str) -> VectorTable:
        self._bring("texts.parquet")
        self._bring(f"embeddings/{encoder_id}/")
        return open_vectors(self.folder, self.manifest, encoder_id, makes_cache=self._in_home)

    def vectors(
        self,
        genes: IntArray | Sequence[int] | Sequence[str],
        *,
        encoder: str | None = None,
        on_missing: OnMissing = "warn",
    ) -> GeneVectorSelection:
        """Vectors of some genes; a read-only view of the mapped file where they are a run of rows, else a copy.

        Parameters
        ----------
        genes
            Names as :meth:`resolve` takes them, or GeneIDs (0 is no gene); in any order, repeats allowed.
        encoder
            As for :meth:`encoder_id`.
        on_missing
            What becomes of names without a vector, which ``missing`` lists: a row of zeros and a warning that names the
            first, an error, a row of zeros alone, or no row. Of GeneIDs ``has_vector`` alone says it.

        Examples
        --------
        >>> import genekb as gk
        >>> kb = gk.open("demo")
        >>> found = kb.vectors(["CD3D", "MS4A1", "no such gene"], on_missing="drop")
        >>> found.symbols, found.missing, found.vectors.shape == (2, kb.vector_table().vectors.shape[1])
        (('CD3D', 'MS4A1'), {'no such gene': 'unknown'}, True)
        """
        encoder_id = self.encoder_id(encoder)
        wanted = np.asarray(genes)
        if wanted.ndim != 1:
            raise ValueError(f"genes are a list of names or of GeneIDs, such as ['CD3D'], not {genes!r}")
        if wanted.dtype.kind not in "UO":
            return self.vector_table(encoder_id).select(wanted.astype(np.int64))
        resolution = self.resolve(list(map(str, genes)))
        found = self.vector_table(encoder_id).select(resolution.gene_ids)
        return found.named(resolution, encoder_id=encoder_id, on_missing=on_missing, where=self.store_id)

    def texts(self, gene_ids: IntArray | Sequence[int]) -> list[str | None]:
        """Texts of some genes, None where there is none.

        Examples
        --------
        >>> import genekb as gk
        >>> [text and text.split(".")[0] for text in gk.open("demo").texts([915, 1])]
        ['CD3D: CD3 delta subunit of T-cell receptor complex', None]
        """
        texts: list[str | None] = schema.rows_of(self.table("texts"), gene_ids)["text"].to_pylist()
        return texts

    def cite(self, text: str, sentence: str) -> str:
        """Add to a sentence of a text of this store its source, ``[UniProt]``, where texts have more than NCBI's."""
        return cite(sentence, self._sections(text))

    @cached_property
    def _sections(self) -> Callable[[str], list[Section]]:
        return text_sections(*map(self.table, ("genes", "texts", "annotations")), licences=self.manifest.licences)

    def words(self, texts: Sequence[str]) -> TextWords:
        """Words of texts; those of this store's texts are stored, others are split now."""
        rows = pc.index_in(schema.strings(texts), self.table("texts")["text"].combine_chunks())
        return split_texts(texts) if rows.null_count else TextWords.from_table(self.table("words").take(rows))

    def encoder(
        self,
        name: str | None = None,
        *,
        device: str = "auto",
        threads: int | None = None,
        base_url: str | None = None,
        trust_remote_code: bool = False,
    ) -> "Encoder":
        """Open the encoder that made the vectors, to encode a query; its weights are checked against the recipe.

        ``trust_remote_code``: whether code of the model may be run, also where the store was opened without that.

        Raises
        ------
        NotAvailable
            If its weights are not on this machine, or it needs code of its own that was not allowed to run.
        StoreCorrupt
            If weights or code are not those that made the vectors.
        """
        from genekb.encoders import EncoderSpec, reopen_encoder

        encoder_id = self.encoder_id(name)
        self._bring(f"embeddings/{encoder_id}/")
        return reopen_encoder(
            EncoderSpec.from_dict(self.manifest.recipe(encoder_id)),
            self.folder / "embeddings" / encoder_id,
            device=device,
            threads=threads,
            hint=recall_place(self.folder.parent, encoder_id),
            base_url=base_url,
            trust_remote_code=trust_remote_code or self._trust_remote_code,
        )

    @for_python
    def search(
        self,
        query: str | FloatArray,
        *,
        encoder: Names | None = None,
        mode: "Mode" = "hybrid",
        limit: int = 10,
        gene_type: str | None = None,
        tax_id: int | None = None,
    ) -> "SearchResult":
        """Find genes by free text, as `genekb search` does, or those whose vectors are nearest to one.

        Parameters
        ----------
        query
            Text; or a vector (dim,), such as that of a gene, for which no encoder is opened: by exact cosine then.
        encoder
            Encoder of the store; the first that can read a query here if None; one or several.
        mode
            By meaning (cosine), by words (BM25), or by the ranks of both.
        limit
            How many genes.
        gene_type
            Only genes of this type, e.g. protein-coding.
        tax_id
            Only genes of this NCBI taxonomy id.

        Raises
        ------
        SourceUnusable
            If the query holds no word.
        NotAvailable
            If an encoder cannot be used.
        ValueError
            If a vector has another length than those of the encoder, or a text more than 2,000 characters.

        Examples
        --------
        >>> import genekb as gk
        >>> kb = gk.open("demo")
        >>> kb.search("lysozyme", limit=1)[0].symbol
        'LYZ'
        """
        from genekb.store.search import search_genes

        return search_genes(
            self, query, encoders=several(encoder), mode=mode, limit=limit, taxon=tax_id, gene_type=gene_type
        )

    @for_python
    def neighbors(self, gene: str | int, *, encoder: str | None = None, limit: int = 10) -> "SearchResult":
        """Find the genes whose texts are nearest to the text of a gene, by exact cosine; the gene itself is left out.

        ``SourceUnusable`` if it is unknown, or has no text.

        Parameters
        ----------
        gene
            Symbol, alias, Ensembl identifier, or GeneID.
        encoder
            As for :meth:`encoder_id`.
        limit
            How many genes.

        Examples
        --------
        >>> import genekb as gk
        >>> kb = gk.open("demo")
        >>> [hit.symbol for hit in kb.neighbors("CD3D", limit=2)]
        ['CD3E', 'CD3G']
        """
        from genekb.store.search import find_neighbors

        return find_neighbors(self, gene, encoder=encoder, limit=limit)

    def gene_ids(self, genes: Sequence[str | int]) -> IntArray:
        """Give the GeneID of each name, 0 where it is of no gene; GeneIDs are given back as they are.

        Examples
        --------
        >>> import genekb as gk
        >>> gk.open("demo").gene_ids(["CD3D", 931, "no such gene"]).tolist()
        [915, 931, 0]
        """
        names = [gene for gene in genes if isinstance(gene, str)]
        of_name = dict(zip(names, self.resolve(names).gene_ids.tolist(), strict=True)) if names else {}
        return np.array([of_name[gene] if isinstance(gene, str) else gene for gene in genes], dtype=np.int64)

    def __len__(self) -> int:
        """Count the genes, with a text or without."""
        return self.manifest.n_genes

    def __contains__(self, gene: object) -> bool:
        """Whether a symbol, an alias, an Ensembl identifier or a GeneID is a gene of this store."""
        if not isinstance(gene, str | int | np.integer):
            return False
        return bool(np.isin(self.gene_ids([gene]), schema.numbers(self.table("names")["gene_id"]))[0])  # type: ignore[list-item]  # NumPy's

    def to_frame(self) -> "pd.DataFrame":
        """Give the genes as a table; needs pandas. Vectors: ``kb.vectors(names).to_frame()``.

        Returns
        -------
        By GeneID: ``symbol``, ``name``, ``type``, ``tax_id``, ``aliases`` and ``text``, which is missing without one.

        Examples
        --------
        >>> import genekb as gk
        >>> kb = gk.open("demo")
        >>> kb.to_frame().query("symbol == 'LYZ'")["name"].item()
        'lysozyme'
        """
        require("pandas", needed_by="tables in Python need")
        genes = self.table("genes").select(["gene_id", "symbol", "name", "type", "tax_id", "aliases"]).to_pandas()
        return genes.assign(text=self.texts(genes["gene_id"].to_numpy())).set_index("gene_id")

    def __repr__(self) -> str:
        facts = self.manifest.facts(not_pulled=self.not_pulled) | {"folder": str(self.folder)}
        return "\n".join([f"Store {self.store_id}", *(f"    {name}: {fact}" for name, fact in facts.items())])

    def _repr_html_(self) -> str:
        facts = self.manifest.facts(not_pulled=self.not_pulled) | {"folder": str(self.folder)}
        return html_table(["Store", self.store_id], facts.items())

    def sql(self, query: str, *, dates_as_text: bool = False) -> pa.Table:
        """Run one read-only statement over ``genes``, ``names``, ``texts``, ``vectors``; Ctrl-C stops it.

        Parameters
        ----------
        dates_as_text
            Whether dates and times come as text, see :func:`genekb.store.sql.run_query`.

        Raises
        ------
        SourceUnusable
            If the query is wrong, writes, or reads outside the store.

        Examples
        --------
        >>> import genekb as gk
        >>> gk.open("demo").sql("select symbol from genes where gene_id = 915").to_pylist()
        [{'symbol': 'CD3D'}]
        """
        from genekb.store.sql import run_query

        return run_query(self._database, query, dates_as_text=dates_as_text)

    @cached_property
    def _database(self) -> "duckdb.DuckDBPyConnection":
        from genekb.store.sql import open_database

        self._need("")
        return open_database(self.folder, self.manifest, owner=self)
