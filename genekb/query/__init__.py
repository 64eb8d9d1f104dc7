"""A store in use: encoders compared and scored by tasks, names of gene sets, export, removal of versions."""

__all__ = [
    "compare",
    "doctor",
    "export",
    "gc",
    "gene_sets",
    "gene_theme",
    "knowledge",
    "name_set",
    "programs",
    "tasks",
    "vocabulary",
]
