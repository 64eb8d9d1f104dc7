"""What makes a function a tool: stores by name, a complete docstring, Python's words in errors."""

import inspect
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Final, ParamSpec, TypeVar, get_type_hints, overload

import genekb
from genekb.core.progress import progress
from genekb.core.python import for_python

P = ParamSpec("P")
Result = TypeVar("Result")
Kb = genekb.Store | str | Path  # an opened store, its name or its folder
_HEADING: Final = "\n\nParameters\n----------\n"
_RAISES: Final = """
Raises
------
InputUnusable, NotCounts, AlignmentTooLow, {}SlotTaken
    See :mod:`cellmodel.core.errors`.
"""
_SHARED: Final = {
    "adata": "Counts or log-normalised expression; genes by any of their names; in memory or backed.",
    "kb": "Store: its name, such as ``human``, its folder, or opened.",
    "recipe": "Name of a recipe, or a `Recipe`.",
    "knowledge": "``real`` gene vectors, ``shuffled`` among the genes, ``random`` ones, or ``none``.",
    "encoder": "Encoder of the store; its first one if None.",
    "cluster_key": "Column of obs with the clusters.",
    "sample_key": "Column of obs with the sample, or the donor, of each cell; if empty, that which several files were "
    "joined with.",
    "reference": "Condition that the others are compared with; the first one if None.",
    "confounded_ok": "Whether conditions are compared that are confounded with batches, which are not adjusted for "
    "then.",
    "config": "Encoder and seed, and all further settings of a run; arguments that are given win over it.",
    "batch_key": "Column of obs with the batch of each cell, to be integrated by Harmony; or a `BatchConfig`.",
    "use_rep": "Key of obsm with an embedding in place of the principal components, such as ``X_scVI``.",
    "spatial": 'Whether ``obsm["spatial"]`` is used as a graph, or a `SpatialConfig` that says how.',
    "layer": "Layer that holds the values; found by what the matrices hold if None.",
    "use_raw": "Whether the values are those of ``.raw``.",
    "gene_key": "Column of var with the gene names; the index of var if None.",
    "key_added": "Name of the slots.",
    "other_store": "Whether the clusters or labels may be of another store or encoder; both are recorded then.",
    "overwrite": "Whether slots of that name may be replaced.",
    "random_state": "The run's one seed; ``seed`` is taken, too.",
    "copy": "Return a copy with the result instead of changing ``adata``.",
}
_SETTINGS: Final = {
    "encoder": "encoder of the store",
    "min_coverage": "share of the genes that must have a text",
    "orthologs": "whether symbols of an orthologue may map to a gene",
    "random_state": "the seed",
    "values": "what the values are: ``auto``, ``counts``, ``linear``, ``log1p``",
    "sentences": "``pooled``, ``sampled`` or ``encoded``",
    "low_data": "for few cells",
    "integration": "``harmony``, ``none``, or a plug-in",
    "confounded_ok": "whether batches may be types or conditions",
    "harmony_theta": "how strongly Harmony mixes",
    "head": "how the embedding is cut",
    "smooth_labels": "with ``spatial``: the majority around a cell decides",
    "device": "where models are trained",
}


def tool(function: Callable[P, Result]) -> Callable[P, Result]:
    """Make a tool of a function: its docstring is completed, and it speaks as :func:`for_python` says.

    Completed are all parameters in their order, those that tools share too, what it raises, and the command that does
    the same. Sections of its own after the parameters, ``Raises`` before ``Examples``, are kept.
    """
    summary, own = (inspect.getdoc(function) or "").split(_HEADING)
    own, *others = re.split(r"\n+(?=(?:Raises|Examples)\n-)", own, maxsplit=1)
    described = re.findall(r"^(\w+(?:, \w+)*)\n    ((?:.+(?:\n    )?)+)", own, flags=re.MULTILINE)
    texts = _SHARED | {name: text for names, text in described for name in names.split(", ")}
    parameters = inspect.signature(function).parameters
    listed = []
    for name, parameter in parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            known = get_type_hints(parameter.annotation.__args__[0])
            texts[name] = "Further options: " + "; ".join(f"``{key}``, {_SETTINGS[key]}" for key in known) + "."
        listed.append(f"{name}\n    {texts[name]}")
    raised = _RAISES.format("LineageMismatch, " if "other_store" in parameters else "")
    if others and not others[0].startswith("Raises"):
        others = [f"{raised.strip()}\n\n{others[0]}"]
    ends = "\n".join(["", *others, ""]) if others else raised
    command = f"From the shell: ``cellmodel {_COMMANDS.get(function.__name__, function.__name__)}``."
    function.__doc__ = f"{summary}\n\n{command}{_HEADING}" + "\n".join(listed) + f"\n{ends}"

    @wraps(function)
    def shown(*args: P.args, **options: P.kwargs) -> Result:
        progress(function.__name__, 0, 0)
        return function(*args, **options)

    return for_python(shown)


_COMMANDS: Final = {
    "annotate_markers": "annotate --marker-lists",
    "cell_type_terms": "export cellxgene",
    "export_graph": "export graph",
}


@overload
def open_kb(kb: Kb) -> genekb.Store: ...
@overload
def open_kb(kb: None) -> None: ...
def open_kb(kb: Kb | None) -> genekb.Store | None:
    """Open a store that is given by name or folder; one that is open is itself."""
    if kb is None or isinstance(kb, genekb.Store):
        return kb
    if isinstance(kb, str | Path):
        return genekb.open(kb)
    raise TypeError(f"kb is a store's name, its folder or an opened store, not {type(kb).__name__}")
