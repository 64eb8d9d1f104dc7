"""Path 2 read by an encoder: sentences of all cells, of a sample of them, and of each cluster's mean cell.

Pooling the vectors of a sentence's genes stands in for reading the sentence. How far the two agree is measured here on
the same cells, beside two controls: permuted gene vectors, and permuted cells.

Sentences that were read are kept on disk by their hash, so that none is read twice. Files are only ever added, each
under its final name at once, so that runs may share a folder; it may be deleted at any time, nothing but time is lost.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

import genekb
from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellByGene, Embedding, GeneVectors, unit_rows
from cellmodel.core.config import GraphConfig
from cellmodel.pp.neighbors import knn_graph
from cellmodel.pp.normalize import rank_genes, rank_weights
from cellmodel.pp.text.align import Whitening, apply_knowledge
from genekb.core.progress import Progress, progress
from genekb.core.resources import raise_resource_fault
from genekb.encoders import EncodedTexts, Encoder
from genekb.files.replace import temporary_sibling
from genekb.store.home import find_home

if TYPE_CHECKING:
    import pyarrow as pa


log = logging.getLogger(__name__)
BATCH: Final = 512  # sentences a file: what a kill can cost at most
QUIET_S: Final = 2.0  # of work before progress is reported
_KEY, _VECTOR, _COUNTS = "sentence_sha256", "vector", ("n_tokens", "n_tokens_cut")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReadSentences:
    """Vectors of sentences as an encoder gave them, in the order asked."""

    # (sentence, dim) float32; the same bytes whether read now or taken from the cache
    vectors: Float[np.ndarray, "sentence dim"]
    # n_tokens, n_tokens_cut: tokens of each sentence, and how many of them, at its end, the encoder did not read
    n_tokens: Int[np.ndarray, " sentence"]
    n_tokens_cut: Int[np.ndarray, " sentence"]
    n_encoded: int  # sentences that were encoded now; the others came from the cache


def sentence_folder(kb: genekb.Store, encoder_id: str) -> Path:
    """Where an encoder's sentences are kept: in the home that the store lies in, else in the user's artifact home."""
    stores = kb.folder.absolute().parent.parent
    home = stores.parent if stores.name == "stores" else find_home()
    return home / "cache" / "sentences" / encoder_id


def read_sentences(
    sentences: Sequence[str], encoder: Encoder, *, folder: Path | None, progress: Progress = progress
) -> ReadSentences:
    """Encode sentences in batches, keeping each batch as it is done and taking over those that are kept already.

    ``sentences``: distinct, each with at least one letter or digit. They are encoded in the order of their hashes, so
    the order given changes nothing. ``folder``: of this encoder's sentences; None keeps nothing. Where it cannot be
    written, the run goes on without. ``progress``: called after each batch, once the work has taken longer than
    :data:`QUIET_S`. Raises ``ValueError`` if a sentence is given twice, or holds no letter or digit;
    ``EncoderFailed`` if a vector is not finite or has no length.
    """
    keys = [hashlib.sha256(sentence.encode()).digest() for sentence in sentences]
    row_of = {key: row for row, key in enumerate(keys)}
    if len(row_of) < len(keys):
        raise ValueError(f"{len(keys) - len(row_of)} of {len(keys)} sentences are given twice; give each once")
    spec = encoder.spec
    vectors = np.empty((len(keys), spec.dim), dtype=np.float32)
    counts = np.zeros((len(keys), 2), dtype=np.int32)
    missing = np.ones(len(keys), dtype=bool)
    for rows, kept in _kept(folder, row_of, encoder_id=str(spec.encoder_id), dim=spec.dim) if folder else ():
        _place(vectors, counts, rows, kept)
        missing[rows] = False
    todo = np.array(sorted(np.flatnonzero(missing).tolist(), key=keys.__getitem__), dtype=np.int64)
    started = time.monotonic()
    for start in range(0, len(todo), BATCH):
        rows = todo[start : start + BATCH]
        encoded = encoder.encode([sentences[row] for row in rows])
        _place(vectors, counts, rows, encoded)
        if folder and not _keep([keys[row] for row in rows], encoded, folder=folder, encoder_id=str(spec.encoder_id)):
            folder = None
        if time.monotonic() - started > QUIET_S:
            progress("sentences", len(keys) - len(todo) + start + len(rows), len(keys))
    if folder and len(todo):
        megabytes = sum(path.stat().st_size for path in folder.glob("*.parquet")) / 1e6
        log.info("%d sentences encoded; %s holds %.1f MB, delete it at any time", len(todo), folder, megabytes)
    return ReadSentences(vectors=vectors, n_tokens=counts[:, 0], n_tokens_cut=counts[:, 1], n_encoded=len(todo))


def _place(
    vectors: Float[np.ndarray, "sentence dim"],
    counts: Int[np.ndarray, "sentence two"],
    rows: Int[np.ndarray, " row"],
    encoded: EncodedTexts,
) -> None:
    vectors[rows] = encoded.vectors
    counts[rows] = np.column_stack([encoded.n_tokens, encoded.n_tokens_cut])


def _kept(
    folder: Path, row_of: dict[bytes, int], *, encoder_id: str, dim: int
) -> Iterator[tuple[Int[np.ndarray, " row"], EncodedTexts]]:
    """Give what is kept of the wanted sentences, file by file in the order of their names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in sorted(folder.glob("*.parquet")):
        try:
            keys = pq.read_table(path, columns=[_KEY], page_checksum_verification=True)[_KEY].to_pylist()
            wanted = np.flatnonzero([key in row_of for key in keys])
            if len(wanted):
                table = pq.read_table(path, page_checksum_verification=True)
                yield np.array([row_of[keys[at]] for at in wanted]), _unpack(table, wanted, encoder_id, dim)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise_resource_fault(error)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("%s is damaged (%s) and is removed; its sentences are read again", path, reason)
            _remove(path)


def _unpack(table: "pa.Table", wanted: Int[np.ndarray, " row"], encoder_id: str, dim: int) -> EncodedTexts:
    """Take rows of a file; ``ValueError`` if they are of another encoder, or not finite vectors of its length."""
    found = (table.schema.metadata or {}).get(b"encoder_id", b"").decode()
    if found != encoder_id:
        raise ValueError(f"it is of encoder {found!r}, not of {encoder_id!r}")
    flat = table[_VECTOR].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(table.num_rows, dim)[wanted]
    if vectors.dtype != np.float32 or not np.isfinite(vectors).all():
        raise ValueError("its vectors are not finite float32")
    n_tokens, n_tokens_cut = (table[name].to_numpy()[wanted] for name in _COUNTS)
    return EncodedTexts(vectors=vectors, n_tokens=n_tokens, n_tokens_cut=n_tokens_cut)


def _keep(keys: Sequence[bytes], encoded: EncodedTexts, *, folder: Path, encoder_id: str) -> bool:
    """Write a batch to a file of its own, named by the sentences in it; whether that could be done."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(np.ascontiguousarray(encoded.vectors, dtype=np.float32).ravel())
    columns = {
        _KEY: pa.array(keys, pa.binary(32)),
        _VECTOR: pa.FixedSizeListArray.from_arrays(flat, encoded.vectors.shape[1]),
        _COUNTS[0]: pa.array(encoded.n_tokens),
        _COUNTS[1]: pa.array(encoded.n_tokens_cut),
    }
    table = pa.table(columns).replace_schema_metadata({"encoder_id": encoder_id})
    path = folder / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:32]}.parquet"
    part = temporary_sibling(path)  # even if two runs write the same batch
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, part, use_dictionary=False, write_page_checksum=True)
        part.replace(path)
    except OSError as error:
        log.warning("sentences are not kept: %s cannot be written (%s)", folder, error.strerror or error)
        _remove(part)
        return False
    return True


def _remove(path: Path) -> None:
    """Remove a file of the cache; one that cannot be removed does no harm."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.debug("%s cannot be removed: %s", path, error)


GENES_SHOWN: Final = 10  # of a cluster's sentence
Read = Callable[[Sequence[str]], ReadSentences]  # of distinct sentences, in their order


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SentenceReading:
    """How the sentence of a cell becomes a vector beside the pooled vectors of its genes."""

    columns: Int[np.ndarray, " gene"]  # of the cells' genes: those that sentences are made of
    names: Sequence[str]  # their names
    gene_vectors: GeneVectors  # (gene, dim) their whitened vectors
    whitening: Whitening  # the map that whitened them; what the encoder reads goes through it as well
    n_top: int  # most genes in a sentence
    # gives the encoder's vectors of distinct sentences, see :func:`cellmodel.pp.text.sentences.read_sentences`
    read: Read


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterSentence:
    """The sentence of a cluster's mean cell, pooled and encoded, both centered over the clusters."""

    cluster: int
    genes: tuple[str, ...]  # its first genes
    cosine: float  # between its encoded and its pooled vector
    # mean of the same between its encoded vector and the pooled ones of the other clusters: what chance gives
    cosine_others: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementRow:
    """How alike two embeddings place the same cells."""

    # what stands on the pooled side: ``real``; ``shuffled genes``, whose vectors were permuted, so that only
    # the genes that cells share are left; ``shuffled cells``, what chance gives
    pooled: str
    # spearman correlation, over all pairs of cells, of the pooled cosine with the encoded one, both sides centered:
    # representational similarity analysis :cite:`kriegeskorte2008rsa`. 1 is the same order of pairs, 0 none
    similarity: float
    neighbor_overlap: float  # share of a cell's 15 nearest by one side that are among its 15 nearest by the other


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceRecord:
    """What is reported about sentences that an encoder read."""

    n_sentences: int  # distinct sentences of cells that were read
    n_encoded: int  # how many of them were encoded now; the others were kept from earlier runs
    share_read: float  # share of their tokens that the encoder read; what lies behind its longest input is cut off
    n_compared: int  # cells whose pooled and encoded vectors were compared
    agreement: tuple[AgreementRow, ...]  # empty where these are too few, or all alike
    clusters: tuple[ClusterSentence, ...] = ()


def cell_sentences(
    expression: CellByGene, gene_names: Sequence[str], *, n_top: int, mean: Float[np.ndarray, " gene"]
) -> list[str]:
    """Write each cell as the names of its genes, as :func:`cellmodel.pp.normalize.rank_genes` orders them."""
    ranked = rank_genes(expression, n_top=n_top, mean=mean)
    return [" ".join(gene_names[gene] for gene in genes) for genes in ranked]


def draw_cells(blocks: Iterable[CellByGene], *, n_cells: int, seed: int) -> Int[np.ndarray, " sample"]:
    """Draw cells by their content: those whose expression, hashed with the seed, comes first.

    The same cells are drawn in the same order however the cells are ordered, and of equal cells one. Cells without
    expression are never drawn.
    """
    prefix = f"sentences of seed {seed}".encode()
    first: dict[bytes, int] = {}
    offset = 0
    for block in blocks:
        for row, (start, end) in enumerate(zip(block.indptr[:-1], block.indptr[1:], strict=True)):
            if end > start:
                order = np.argsort(block.indices[start:end])
                genes = block.indices[start:end][order].astype(np.int64).tobytes()
                values = block.data[start:end][order].tobytes()
                key = hashlib.blake2b(prefix + genes + values, digest_size=16).digest()
                first.setdefault(key, offset + row)
        first = {key: first[key] for key in sorted(first)[:n_cells]}
        offset += block.shape[0]
    return np.array(list(first.values()), dtype=np.int64)


def encode_sentences(sentences: Sequence[str], reading: SentenceReading) -> tuple[Embedding, ReadSentences]:
    """Path 2, encoded: the encoder reads each sentence; centered over them, in the whitened space, not normalized.

    Equal sentences are encoded once, in the order of the alphabet; an empty one lies at the center.
    """
    distinct = sorted({sentence for sentence in sentences if sentence})
    read = reading.read(distinct)
    row_of = {sentence: row for row, sentence in enumerate(distinct)}
    rows = np.array([row_of.get(sentence, -1) for sentence in sentences], dtype=np.int64)
    centered = np.zeros((len(sentences), read.vectors.shape[1]), dtype=np.float32)
    has_sentence = rows >= 0
    if has_sentence.any():
        centered[has_sentence] = read.vectors[rows[has_sentence]]
        centered[has_sentence] -= centered[has_sentence].mean(axis=0)
    return np.asarray(centered @ reading.whitening.components, dtype=np.float32), read


def compare_sentences(
    sample: CellByGene,
    reading: SentenceReading,
    *,
    pooled: Embedding,
    encoded: Embedding,
    read: ReadSentences,
    mean: Float[np.ndarray, " gene"],
    seed: int,
) -> SentenceRecord:
    """Set encoded sentences of a sample beside their pooled vectors and the controls.

    ``sample``: (cell, gene) of these cells, as :func:`draw_cells` draws them, and the genes of ``reading``. ``read``:
    all that was read, of which ``encoded`` may be a part. ``mean``: of each gene over all cells.
    """
    shuffled = apply_knowledge(reading.gene_vectors, knowledge="shuffled", seed=seed)
    order = seeding.generator(seed, "shuffled sentences").permutation(len(pooled))
    controls = {
        "real": pooled,
        "shuffled genes": np.asarray(rank_weights(sample, n_top=reading.n_top, mean=mean) @ shuffled),
        "shuffled cells": pooled[order],
    }
    n_tokens = int(read.n_tokens.sum(dtype=np.int64))
    n_cut = int(read.n_tokens_cut.sum(dtype=np.int64))
    return SentenceRecord(
        n_sentences=len(read.vectors),
        n_encoded=read.n_encoded,
        share_read=1 - n_cut / n_tokens if n_tokens else 0.0,
        n_compared=len(pooled),
        agreement=compare_readings(controls, encoded),
    )


def read_clusters(
    means: CellByGene, reading: SentenceReading, *, mean: Float[np.ndarray, " gene"]
) -> tuple[ClusterSentence, ...]:
    """Encode the sentence of each cluster's mean cell; ``mean``: of each gene over all cells."""
    n_clusters = means.shape[0]
    if n_clusters < 2:  # noqa: PLR2004 - one cluster is its own center
        return ()
    encoded, _ = encode_sentences(cell_sentences(means, reading.names, n_top=reading.n_top, mean=mean), reading)
    pooled = np.asarray(rank_weights(means, n_top=reading.n_top, mean=mean) @ reading.gene_vectors)
    cosines = centered_rows(encoded) @ centered_rows(pooled).T  # (cluster, cluster)
    own = np.diag(cosines)
    others = (cosines.sum(axis=1) - own) / (n_clusters - 1)
    ranked = rank_genes(means, n_top=GENES_SHOWN, mean=mean)
    return tuple(
        ClusterSentence(
            cluster=cluster,
            genes=tuple(reading.names[gene] for gene in ranked[cluster]),
            cosine=float(own[cluster]),
            cosine_others=float(others[cluster]),
        )
        for cluster in range(n_clusters)
    )


N_NEIGHBORS: Final = 15  # of each cell, that both sides are asked for


def compare_readings(pooled: Mapping[str, Embedding], encoded: Embedding) -> tuple[AgreementRow, ...]:
    """Measure how alike embeddings, each centered, place the same cells.

    Nothing where there are no more than 16 cells, so that all are neighbors, or no pair of them differs from another.
    """
    if len(encoded) <= N_NEIGHBORS + 1:
        return ()
    sides = {name: centered_rows(side) for name, side in pooled.items()}
    read = centered_rows(encoded)
    ranks, neighbors = _pair_ranks(read), _neighbors(read)
    rows = []
    for name, side in sides.items():
        of_side = _pair_ranks(side)
        if min(ranks.std(), of_side.std()) == 0:
            return ()
        similarity = float(np.corrcoef(of_side, ranks)[0, 1])
        overlap = float(_neighbors(side).multiply(neighbors).sum() / neighbors.nnz)
        rows.append(AgreementRow(pooled=name, similarity=similarity, neighbor_overlap=overlap))
    return tuple(rows)


def centered_rows(embedding: Embedding) -> Embedding:
    """Take out the mean and scale each row to length one."""
    return unit_rows(embedding.astype(np.float64) - embedding.mean(axis=0, dtype=np.float64))


def _pair_ranks(rows: Embedding) -> Float[np.ndarray, " pair"]:
    """Ranks of the cosines of all pairs of different cells; the sample is small, so all pairs fit."""
    from scipy.stats import rankdata

    first, second = np.triu_indices(len(rows), k=1)
    return np.asarray(rankdata((rows @ rows.T)[first, second]))


def _neighbors(rows: Embedding) -> sp.csr_matrix:
    graph = knn_graph(rows, config=GraphConfig(n_neighbors=N_NEIGHBORS))
    return sp.csr_matrix((np.ones(graph.nnz), graph.indices, graph.indptr), shape=graph.shape)
