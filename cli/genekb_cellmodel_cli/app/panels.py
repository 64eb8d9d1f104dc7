"""Help in panels: the options that people use first, then the others by subject."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from typer.core import TyperCommand

_FIRST: Final = ("kb", "output", "in_place", "n_clusters", "batch_key", "report", "json")
_PANELS: Final[Mapping[str, Sequence[str]]] = {  # by the name of the parameter; others stand with the first
    "Input": ("layer", "use_raw", "gene_key", "values", "transpose", "sample_key", "out_of_core", "cluster_key"),
    "Quality": ("min_counts", "min_genes", "max_mito", "doublets"),
    "Clusters": ("resolution", "within", "recipe", "head", "no_clusters", "spatial", "smooth_labels", "use_rep"),
    "Knowledge": (
        "home", "knowledge", "encoder", "min_coverage", "orthologs", "sentences", "low_data", "other_store",
        "trust_remote_code",
    ),
    "Names": ("candidates", "tissue", "only_tissue", "markers", "level", "permutations", "gmt", "skip"),
    "Batches": ("integration", "confounded_ok", "harmony_theta"),
    "Output": ("tables", "key_added", "overwrite", "save_model"),
    "Compute": (
        "random_state", "seed", "device", "threads", "work_dir", "engine", "workers", "stall_timeout_s", "ray_address",
        "timeout_s", "dry_run",
    ),
}  # fmt: skip
_FEW: Final = 12  # options that need no panels
_PROGRAMS: Final[Mapping[str, Sequence[str]]] = {  # commands that people use first
    "cellmodel": ("run", "annotate", "search", "markers", "composition", "report", "view", "plot"),
    "genekb": ("build", "search", "resolve", "info", "export", "pull", "push", "update"),
}


class PanelCommand(TyperCommand):
    """A command whose help shows its options in panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, the options that people use first, and a panel for each subject."""
        records = [(param, record) for param in self.get_params(ctx) if (record := param.get_help_record(ctx))]
        arguments = [record for param, record in records if param.param_type_name == "argument"]
        options = [(str(param.name), record) for param, record in records if param.param_type_name != "argument"]
        for title, rows in [("Arguments", arguments), *_panels(options)]:
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _panels(options: Sequence[tuple[str, Any]]) -> Iterable[tuple[str, list[Any]]]:
    """Give the rows of each panel, in their order."""
    if len(options) <= _FEW:
        return [("Options", [row for _, row in options])]
    of_panels = {name for names in _PANELS.values() for name in names}
    by_rank = sorted(options, key=lambda each: _FIRST.index(each[0]) if each[0] in _FIRST else len(_FIRST))
    first = [row for name, row in by_rank if name not in of_panels]
    return [
        ("Options", first),
        *((title, [row for name, row in options if name in names]) for title, names in _PANELS.items()),
    ]


def command_panels(program: str, commands: Sequence[tuple[str, str]]) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    """Give the commands of a program with what they do: those that people use first, then the others."""
    texts, first = dict(commands), _PROGRAMS.get(program, ())
    rows = [(name, texts[name]) for name in first if name in texts]
    others = [(name, text) for name, text in commands if name not in first]
    return [("Commands", rows), ("Further commands", others)] if rows else [("Commands", others)]
