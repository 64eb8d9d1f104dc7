"""A source of gene records, by what lies at its path."""

from collections.abc import Sequence
from pathlib import Path

from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.sources.tables import SourceTables


def read_source(
    path: Path, *, taxa: Sequence[str], release: str | None = None, names: SourceTables | None = None
) -> SourceTables:
    """Read a source."""
    return read_ncbi_folder(path, taxa=taxa, release=release)
