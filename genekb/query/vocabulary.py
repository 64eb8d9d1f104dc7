"""Vectors in the order of a model's vocabulary: a row for each token, and a mask that says which rows are real."""

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from genekb.core.errors import SourceUnusable
from genekb.core.messages import counted, listed
from genekb.files.atomic import write_arrays
from genekb.files.endings import check_ending
from genekb.files.replace import Target, check_targets, output
from genekb.files.tables import read_list, read_text, write_table
from genekb.query.export import ExportResult, save_arrays, vector_lineage
from genekb.store.reader import Store
from genekb.store.vectors import GeneVectorSelection

log = logging.getLogger(__name__)
FORMATS: Final = ("npz", "safetensors")
MIN_KNOWN: Final = 0.5  # of the tokens that could be genes; fewer are of another species, or of no gene
_SPECIAL: Final = re.compile(r"<.*>|\[.*\]")  # padding, class, mask: tokens of the model itself


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """Read the tokens of a model, in the order of its rows.

    ``path``: a JSON object of token and row, as scGPT's ``vocab.json``; a JSON list; a list, one token a line; or the
    folder of a model that holds a ``vocab.json``. Raises ``SourceUnusable`` if it is none, or rows are missing.
    """
    file = path / "vocab.json" if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise SourceUnusable(f"{path} holds no vocab.json; give the file with the model's vocabulary")
    content: Any = read_list(file, "a vocabulary") if file.suffix != ".json" else _read_json(file)
    if isinstance(content, list):
        content = {token: row for row, token in enumerate(content) if type(token) is str}
    if not isinstance(content, dict) or not content or any(type(row) is not int for row in content.values()):
        raise SourceUnusable(f"{file} is no vocabulary; it must map each token to the number of its row")
    wrong = sorted(set(range(len(content))) ^ set(content.values()))
    if wrong:
        rows = f"{counted(len(content), 'token')}, whose rows must be 0 to {len(content) - 1:,}, each once"
        raise SourceUnusable(f"{file} has {rows}; see row {wrong[0]:,}")
    return tuple(sorted(content, key=content.__getitem__))


def _read_json(file: Path) -> object:
    try:
        return json.loads(read_text(file, "a vocabulary"))
    except (ValueError, RecursionError) as error:
        raise SourceUnusable(f"{file} is not whole JSON: {error}") from error


def export_ordered(
    store: Store, path: Path, tokens: Sequence[str], *, encoder: str | None = None, overwrite: bool = False
) -> ExportResult:
    """Write a row of vectors for each token of a vocabulary, in its order, as ``.npz`` or ``.safetensors``.

    ``vectors`` (token, dim), ``mask`` (token,): true where the row is a vector and false where it is zeros, and
    ``gene_ids`` (token,), 0 for no gene; store, encoder and licences as in every export. Genes among the tokens that
    have no vector are listed in ``<stem>.missing.tsv``; a warning names the first. Raises ``SourceUnusable`` if fewer
    than :data:`MIN_KNOWN` of the tokens, but for those of the model itself, are genes of the store.
    """
    check_ending(path, *FORMATS)
    encoder_id = store.gene_encoder_id(encoder)
    found = store.vectors(list(tokens), encoder=encoder_id, on_missing="zero")
    genes = {token: bool(gene) for token, gene in zip(tokens, found.gene_ids, strict=True) if not _is_special(token)}
    unknown = [token for token, is_known in genes.items() if not is_known]
    if not genes or len(unknown) > (1 - MIN_KNOWN) * len(genes):
        raise SourceUnusable(
            f"{len(genes) - len(unknown):,} of {counted(len(genes), 'token')} are genes of {store.store_id}, "
            f"{MIN_KNOWN:.0%} are needed; not {listed(unknown)}; is the store of the model's species?"
        )
    missing = {token: why for token, why in found.missing.items() if token in genes}
    files = (path, *([path.with_name(f"{path.stem}.missing.tsv")] if missing else []))
    check_targets([Target(file, makes_parents=True) for file in files], inputs=[store.folder], overwrite=overwrite)
    for file in files[1:]:
        write_table(file, ("name", "reason"), missing.items(), overwrite=overwrite)
    with output(Target(path, makes_parents=True), overwrite=overwrite) as part:
        _write(found, part, vector_lineage(store, encoder_id), is_npz=path.suffix == ".npz")
    if missing:
        first = listed([f"{token} ({why})" for token, why in missing.items()])
        known = f"{len(missing) - len(unknown):,} genes without a vector, {len(unknown):,} unknown"
        log.warning("%s of %s are zeros, false in the mask: %s: %s", f"{len(missing):,}", counted(len(genes), "gene"),
                    known, first)  # fmt: skip
    n_genes = len(genes) - len(missing)
    return ExportResult(files=files, encoders=(encoder_id,), n_genes=n_genes, n_without_vector=len(missing))


def _is_special(token: str) -> bool:
    return _SPECIAL.fullmatch(token) is not None


def _write(found: GeneVectorSelection, path: Path, lineage: dict[str, str], *, is_npz: bool) -> None:
    vectors = np.ascontiguousarray(found.vectors, dtype=np.float32)
    arrays: dict[str, Any] = {"vectors": vectors, "mask": vectors.any(axis=1), "gene_ids": np.asarray(found.gene_ids)}
    if not is_npz:
        write_arrays(arrays, path, metadata=lineage)
        return
    save_arrays(arrays | {"tokens": np.array(found.symbols, dtype=str)}, path, lineage=lineage)
