"""Encoders of genes by annotations: TF-IDF of terms, reduced by SVD; and encoders mixed of others by their cosines."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.core.messages import did_you_mean
from genekb.encoders.base import EncoderSpec, GeneVectors
from genekb.encoders.kinds import stored_name
from genekb.schema import FloatArray, IntArray, numbers

DIM: Final = 300
MIN_GENES: Final = 2  # with a term: one of a single gene relates it to none
REVISION: Final = "1"
PARTS: Final = {
    "wcp": 0.5,
    "terms-go": 0.25,
    "terms-pubmed": 0.15,
    "terms-links": 0.1,
}  # of ``best``, as far as they are there


def fit_terms(name: str, terms: Mapping[str, pa.Table], *, gene_ids: IntArray) -> GeneVectors:
    """Fit ``terms:go,pubmed``: genes by terms of these kinds, TF-IDF at unit length, leading 300 directions.

    A term counts log((1 + N) / (1 + genes with it)) + 1, as in scikit-learn; one of a single gene is left out.

    Parameters
    ----------
    terms
        By kind a table of ``gene_id`` and ``term``, each pair once.
    gene_ids
        Genes that get a vector, if they have a term.

    Raises
    ------
    NotAvailable
        If there are no terms of a kind, or fewer than two genes share one.

    Examples
    --------
    >>> import numpy as np, pyarrow as pa
    >>> from genekb.encoders.imported.terms import fit_terms
    >>> pairs = pa.table({"gene_id": [1, 2, 2, 3], "term": ["a", "a", "b", "b"]})
    >>> fit_terms("terms:go", {"go": pairs}, gene_ids=np.array([1, 2, 3])).vectors.shape
    (3, 2)
    """
    import scipy.sparse as sp
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    from genekb.encoders.wcp import right_vectors

    kinds = name.removeprefix("terms:").split(",")
    for kind in kinds:
        if kind not in terms:
            have = f"it has {', '.join(sorted(terms))}" if terms else "it has none"
            raise NotAvailable(
                f"encoder {name!r} needs terms {kind!r}, which the source lacks ({have}){did_you_mean(kind, terms)}; "
                "give files with terms of genes as `annotations`"
            )
    rows, columns, n_terms, digest = _numbered({kind: terms[kind] for kind in kinds}, gene_ids)
    counts = sp.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(len(gene_ids), n_terms))
    n_genes = np.bincount(counts.indices, minlength=n_terms)
    counts = counts[:, n_genes >= MIN_GENES]
    has_term = np.diff(counts.indptr) > 0
    if not has_term.any():
        raise NotAvailable(f"encoder {name!r}: no term is of two genes that have a text")
    rarity = np.log((1 + len(gene_ids)) / (1 + n_genes[n_genes >= MIN_GENES])) + 1
    weighted = sp.csr_matrix(counts[has_term].multiply(rarity), dtype=np.float32)
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)))
    weighted = sp.csr_matrix(weighted.multiply(1 / lengths), dtype=np.float32)
    with threadpool_limits(limits=1):  # rounding depends on the number of threads
        vectors = weighted @ right_vectors([weighted], DIM)[0]
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    usable = norms[:, 0] > 0
    fitted = gene_ids[has_term][usable]
    for array in (rows, columns, fitted):
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    spec = EncoderSpec(
        name=stored_name(name), kind="terms", model_id=",".join(kinds), revision=REVISION, dim=vectors.shape[1],
        state_sha256=digest.hexdigest(),
    )  # fmt: skip
    return GeneVectors(
        spec=spec, gene_ids=fitted, vectors=np.asarray(vectors[usable] / norms[usable], dtype=np.float32)
    )


def _numbered(terms: Mapping[str, pa.Table], gene_ids: IntArray) -> tuple[IntArray, IntArray, int, "hashlib._Hash"]:
    """Row of the gene and number of the term of each pair; how many terms there are, and a digest of them."""
    digest = hashlib.sha256()
    rows, columns, n_terms = [], [], 0
    for kind, table in terms.items():
        genes = numbers(table["gene_id"])
        listed, codes = np.unique(table["term"].to_numpy(zero_copy_only=False).astype(np.str_), return_inverse=True)
        row = np.minimum(np.searchsorted(gene_ids, genes), len(gene_ids) - 1)
        kept = gene_ids[row] == genes
        rows.append(row[kept])
        columns.append(codes[kept] + n_terms)
        n_terms += len(listed)
        digest.update("\n".join([kind, *listed.tolist()]).encode())
    return np.concatenate(rows), np.concatenate(columns), n_terms, digest


def with_best(models: Sequence[str], terms: Collection[str]) -> list[str]:
    """Put ``wcp``, annotations and their mix, as far as a source has the terms, in place of ``best``.

    ``auto`` is the same where there are such terms.
    """
    own = [f"terms:{kind}" for kind in ("go", "pubmed", "links") if kind in terms]
    parts = {name: weight for name, weight in PARTS.items() if name in {"wcp", *map(stored_name, own)}}
    mixed = "mix:" + ",".join(f"{name}={weight:g}" for name, weight in parts.items())
    best = ["wcp", *own, mixed] if own else ["wcp"]
    replaced = {"best", "auto"} if own else {"best"}
    return [each for model in models for each in (best if model in replaced else [model])]


def parse_mix(name: str) -> dict[str, float]:
    """Weights by the name of each part of ``mix:wcp=.5,terms-go=.25``, summing to 1; ``EncoderFailed`` if none are."""
    parts = [part.partition("=") for part in name.removeprefix("mix:").split(",")]
    try:
        weights = {part.strip(): float(weight) for part, _, weight in parts}
    except ValueError as error:
        raise EncoderFailed(f"encoder {name!r} is no mix: give parts as mix:wcp=.5,terms-go=.5") from error
    if len(weights) != len(parts) or len(parts) < 2 or not all(0 < weight < np.inf for weight in weights.values()):  # noqa: PLR2004
        raise EncoderFailed(f"encoder {name!r} needs two or more distinct parts, each with a weight above 0")
    return {part: weight / sum(weights.values()) for part, weight in weights.items()}


def mix_spec(name: str, parts: Sequence[EncoderSpec]) -> EncoderSpec:
    """Recipe of a mix: the ids of its parts and their weights."""
    weights = parse_mix(name)
    listed = ",".join(f"{spec.encoder_id}={weight:.6g}" for spec, weight in zip(parts, weights.values(), strict=True))
    return EncoderSpec(
        name=stored_name(name), kind="mix", model_id=listed, revision=REVISION, dim=sum(spec.dim for spec in parts)
    )


def mix_vectors(parts: Sequence[tuple[IntArray, FloatArray]], weights: Sequence[float]) -> tuple[IntArray, FloatArray]:
    """Mix vectors of genes, so that the cosine is the weighted mean of the cosines of the parts.

    ``parts``: GeneIDs, ascending, and vectors of each. A gene that lacks a part keeps the others in proportion.
    """
    gene_ids = np.unique(np.concatenate([genes for genes, _ in parts]))
    blocks = []
    for (genes, vectors), weight in zip(parts, weights, strict=True):
        block = np.zeros((len(gene_ids), vectors.shape[1]), dtype=np.float32)
        block[np.searchsorted(gene_ids, genes)] = (
            vectors * np.sqrt(weight) / np.linalg.norm(vectors, axis=1, keepdims=True)
        )
        blocks.append(block)
    mixed = np.hstack(blocks)
    return gene_ids, mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
