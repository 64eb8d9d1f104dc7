"""Which endings the files of each kind have that commands write: one table, asked before any work."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from genekb.core.errors import OutputUnusable

CELLS, TABLE, PLOT, REPORT = "annotated cells", "a table", "a plot", "a report"
_PLAIN: Final = ("npy", "npz", "json", "h5ad", "safetensors", "parquet", "duckdb")
VECTORS: Final = {
    **{kind: (f".{kind}",) for kind in _PLAIN},
    "word2vec": (".vec", ".w2v"),
}  # formats of vectors of genes
PROGRAMS: Final = {
    "gears": (".csv",),
    "genept": (".json",),
    "helical": (".json",),
    "pertpy": (".h5ad",),
    "scouter": (".csv",),
}  # that read them
ENDINGS: Final[Mapping[str, tuple[str, ...]]] = {
    CELLS: (".h5ad", ".zarr"),
    TABLE: (".tsv", ".csv"),
    PLOT: (".svg", ".png", ".pdf"),
    REPORT: (".html",),
    **VECTORS,
    **PROGRAMS,
}


def check_ending(path: Path, *kinds: str, any_other: bool = False, error: type[Exception] = OutputUnusable) -> None:
    """Check that an output has an ending of its kind, or of one of several; ``any_other``: or one that no kind has."""
    taken = {kind: ENDINGS[kind] for kind in kinds}
    is_free = any_other and not any(path.suffix in endings for endings in ENDINGS.values())
    if not is_free and not any(path.suffix in endings for endings in taken.values()):
        written = ", ".join(f"{kind} as {' or '.join(endings)}" for kind, endings in taken.items())
        raise error(f"{path} {f'ends with {path.suffix!r}' if path.suffix else 'has no ending'}; write {written}")


def vector_format(path: Path, *, error: type[Exception] = OutputUnusable) -> str:
    """Name the format of vectors that a file's ending says; ``error`` if it says none."""
    check_ending(path, *VECTORS, error=error)
    return next(kind for kind, endings in VECTORS.items() if path.suffix in endings)
