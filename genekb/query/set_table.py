"""Names of gene sets as a table, a row for each set."""

from pathlib import Path
from typing import Final

from genekb.files.tables import write_table
from genekb.query.name_set import SetNaming

_TABLE: Final = (
    *("set", "name", "name_id", "z", "p_value", "name_p", "n_genes", "n_theme", "reason", "theme", "others"),
    *("unknown", "without_text", "outside", "names", "sentences"),
)


def name_rows(found: SetNaming) -> list[tuple[str | float | None, ...]]:
    """Give a row of :data:`_TABLE` for each set; lists of genes are set apart by blanks, all else by semicolons."""
    return [
        (
            *(one.set_name, one.name, one.names[0].name_id if one.name else "", one.names[0].z if one.name else None),
            *(one.p_value, one.name_p, len(one.theme) + len(one.others), len(one.theme), one.reason),
            *(" ".join(genes) for genes in ([gene.name for gene in one.theme], one.others, one.unknown)),
            *(" ".join(genes) for genes in (one.without_text, one.outside)),
            "; ".join(f"{name.name} ({name.z:.1f})" for name in one.names),
            "; ".join(f"{gene.name}: {gene.sentence}" for gene in one.theme if gene.sentence),
        )
        for one in found.sets
    ]


def write_names(found: SetNaming, path: Path, *, overwrite: bool = False) -> None:
    """Write a row for each set to a table; ``OutputUnusable`` if the file exists, and may not be replaced."""
    write_table(path, _TABLE, name_rows(found), overwrite=overwrite)
