"""Docstrings of tools: parameters that several share are described once."""

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

Tool = TypeVar("Tool", bound=Callable[..., Any])
_HEADING = "\n\nParameters\n----------\n"
_RAISES = """
Raises
------
InputUnusable, NotCounts, AlignmentTooLow, {}SlotTaken
    See :mod:`cellmodel.core.errors`.
"""
_SHARED = {
    "adata": "Counts or log-normalised expression; genes by symbol, alias, Ensembl identifier or GeneID.",
    "kb": "Opened store.",
    "recipe": "Name of a recipe, or a `Recipe`.",
    "knowledge": "``real`` gene vectors, ``shuffled`` among the genes, ``random`` ones, or ``none``.",
    "encoder": "Encoder of the store; its first one if None.",
    "cluster_key": "Column of obs with the clusters.",
    "sample_key": "Column of obs with the sample, or the donor, of each cell; if empty, that which several files were "
    "joined with.",
    "reference": "Condition that the others are compared with; the first one if None.",
    "confounded_ok": "Whether conditions are compared that are confounded with batches, which are not adjusted for "
    "then.",
    "config": "Encoder and seed, and all further settings of a run.",
    "batch_key": "Column of obs with the batch of each cell, to be integrated by Harmony; or a `BatchConfig`.",
    "use_rep": "Key of obsm with an embedding in place of the principal components, such as ``X_scVI``.",
    "layer": "Layer that holds the values; found by what the matrices hold if None.",
    "use_raw": "Whether the values are those of ``.raw``.",
    "gene_key": "Column of var with the gene names; the index of var if None.",
    "key_added": "Name of the slots.",
    "other_store": "Whether the clusters or labels may be of another store or encoder; both are recorded then.",
    "overwrite": "Whether slots of that name may be replaced.",
    "random_state": "The run's one seed.",
    "copy": "Return a copy with the result instead of changing ``adata``.",
}


def documented(tool: Tool) -> Tool:
    """Complete the docstring of a tool: all its parameters in their order, shared ones too, and what it raises.

    Sections of its own after the parameters, ``Raises`` before ``Examples``, are kept.
    """
    if tool.__doc__:
        summary, own = (inspect.getdoc(tool) or "").split(_HEADING)
        own, *others = re.split(r"\n+(?=(?:Raises|Examples)\n-)", own, maxsplit=1)
        texts = _SHARED | dict(re.findall(r"^(\w+)\n    ((?:.+(?:\n    )?)+)", own, flags=re.MULTILINE))
        parameters = list(inspect.signature(tool).parameters)
        listed = "\n".join(f"{name}\n    {texts[name]}" for name in parameters)
        raised = _RAISES.format("LineageMismatch, " if "other_store" in parameters else "")
        ends = "\n".join(["", *others, ""]) if others else raised
        tool.__doc__ = f"{summary}{_HEADING}{listed}\n{ends}"
    return tool
