"""Results as a folder of two files: arrays as safetensors, all else as JSON with their digest; graphs kept so.

Nothing in such a folder is ever executed. It takes its name when it is complete.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import scipy.sparse as sp

from cellmodel.core.errors import InputUnusable, LineageMismatch
from cellmodel.io.records import Lineage
from cellmodel.io.writers import FolderKind, output
from genekb.files import atomic as files
from genekb.files.limits import read_json

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

GRAPH: Final = FolderKind(
    name="graph", description="graph.json", made_by="`cellmodel export`", remedy="export the graph again"
)
_ENDS, _WEIGHT = "edge_index", "edge_weight"
_TEXTS: Final = ("classes", "symbols")
IDS: Final = tuple(field.name for field in fields(Lineage))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TypedGraph:
    """A graph with nodes and edges of several types, before it is a tensor."""

    # nodes: by type, arrays whose first axis is the node; edges: (source, relation, target) to (source, target) weights
    nodes: Mapping[str, Mapping[str, np.ndarray]]
    edges: Mapping[tuple[str, str, str], sp.csr_matrix]
    names: Mapping[str, list[str]]  # of the nodes of each type, in their order
    record: Mapping[str, Any]  # settings, versions and ids
    classes: list[str]  # what the labels ``y`` of the cells count; empty without labels
    symbols: list[str]  # official symbol of each gene, empty where it has none; no list without a store

    @property
    def sizes(self) -> dict[str, int]:
        """Number of nodes or edges of each type, an edge's three words joined by blanks."""
        n_edges = {" ".join(kind): int(weights.nnz) for kind, weights in self.edges.items()}
        return {kind: len(names) for kind, names in self.names.items()} | n_edges


def write_graph(graph: TypedGraph, folder: Path, *, overwrite: bool = False) -> None:
    """Write a graph to a folder of two files; ``InputUnusable`` if the folder may not be replaced."""
    arrays = {f"{kind}/{name}": values for kind, held in graph.nodes.items() for name, values in held.items()}
    for kind, edges in graph.edges.items():
        weights = edges.sorted_indices()
        sources = np.repeat(np.arange(weights.shape[0], dtype=np.int64), np.diff(weights.indptr))
        arrays[f"{' '.join(kind)}/{_ENDS}"] = np.stack([sources, weights.indices.astype(np.int64)])
        arrays[f"{' '.join(kind)}/{_WEIGHT}"] = weights.data.astype(np.float32)
    texts = {name: getattr(graph, name) for name in _TEXTS}
    content = {"names": dict(graph.names), "sizes": graph.sizes, "record": dict(graph.record), **texts}
    write_folder(folder, GRAPH, arrays, content, overwrite=overwrite)


def read_graph(folder: str | Path) -> "HeteroData":
    """Read a graph that `cellmodel export` wrote.

    Tensors are memory-mapped: what is not used is not read into memory, after one pass that checks the digest. Nothing
    in the folder is executed.

    Parameters
    ----------
    folder
        Folder with ``graph.json`` and ``arrays.safetensors``.

    Returns
    -------
    Nodes of type ``cell`` have ``x``, the principal components (cell, dim), and where they were exported ``text``, the
    text view (cell, dim); ``y``, the place of the label in ``graph.classes``, -1 where there is none; ``pos``,
    coordinates. Nodes of type ``gene`` have, with a store, ``gene_id`` (NCBI, 0: unknown) and, with knowledge, ``x``,
    the encoder's vector of the text (gene, dim), zero where ``has_text`` is false.

    ``(cell, near, cell)`` has an ``edge_index`` (2, edge) and an ``edge_weight``, the shared-nearest-neighbor weight
    in (0, 1], and is symmetric; ``(cell, expresses, gene)`` has the log-normalized expression of the highly variable
    genes as its ``edge_weight``; ``(cell, beside, cell)`` links the nearest by coordinates. Other directions are made
    by ``torch_geometric.transforms.ToUndirected(reduce="mean")``.

    ``graph.names["cell"]`` and ``graph.names["gene"]`` are arrays of names in the order of the nodes, as in the cell
    file, and ``graph.symbols`` the official symbols of the genes; ``graph.made_with`` has the ids of store, encoder and
    content. Settings and versions stand in ``graph.json``.

    Raises
    ------
    InputUnusable
        If the folder holds no graph, or one of a later format.
    LineageMismatch
        If its bytes are not those that were written.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> _ = cm.tl.export_graph(anndata.read_h5ad("cells.h5ad"), knowledge="none", folder="graph")
    >>> graph = cm.io.read_graph("graph")
    >>> len(graph["cell"].x) == len(graph.names["cell"]), graph["cell", "near", "cell"].edge_index.shape[0]
    (True, 2)
    """
    return read_folder(Path(folder), GRAPH, _graph)


def _graph(content: dict[str, Any], path: Path) -> "HeteroData":
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from torch_geometric.data import HeteroData

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    graph = HeteroData()
    for name, tensor in tensors.items():
        kind, _, attribute = name.partition("/")
        words = tuple(kind.split(" "))
        graph[words if len(words) > 1 else kind][attribute] = tensor
    # names are no attributes of the nodes: sub-graphs take these apart, and text cannot be indexed by a tensor there
    graph.names = {kind: np.array(names, dtype=np.str_) for kind, names in dict(content["names"]).items()}
    for kind, names in graph.names.items():
        graph[kind].num_nodes = len(names)
    graph.made_with = {name: content["record"][name] for name in IDS if name in content["record"]}
    for name in _TEXTS:
        if content[name]:
            setattr(graph, name, np.array(content[name], dtype=np.str_))
    graph.validate()
    return graph


ARRAYS: Final = "arrays.safetensors"
Read = TypeVar("Read")


def write_folder(
    folder: Path, kind: FolderKind, arrays: Mapping[str, np.ndarray], content: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Write arrays and the description ``content``; ``InputUnusable`` if the folder may not be replaced."""
    with output(kind.target(folder), overwrite=overwrite) as part:
        part.mkdir(parents=True)
        path = part / ARRAYS
        files.write_arrays({name: np.ascontiguousarray(values) for name, values in arrays.items()}, path)
        promised = {"sha256": files.sha256_file(path), "n_bytes": path.stat().st_size}
        files.write_json({"format": kind.format, **content, **promised}, part / kind.description)


def read_folder(
    folder: Path, kind: FolderKind, make: Callable[[dict[str, Any], Path], Read], *, address: str = ""
) -> Read:
    """Check the bytes of a folder, and make what it holds of its description and the file of its arrays.

    ``make``: its ``ValueError``, ``KeyError`` and ``TypeError`` mean damage. ``address``: where the folder was pulled
    from, which errors then name in its place. Raises ``InputUnusable`` if it is of another kind, or of a later format;
    ``LineageMismatch`` if its bytes are not those that were written.
    """
    if not (folder / kind.description).is_file():
        raise InputUnusable(f"{folder} holds no {kind.description}; is it a folder that {kind.made_by} wrote?")
    where, hint = (address, "ask its owner to push it again") if address else (str(folder), kind.remedy)
    try:
        content = read_json(folder / kind.description)
        expected, found_format = content["sha256"], content["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(where, kind, hint, error) from error
    if found_format != kind.format:
        raise InputUnusable(
            f"{where} is a {kind.name} of format {found_format}, {kind.format} is read here; update the package"
        )
    if not (folder / ARRAYS).is_file() or files.sha256_file(folder / ARRAYS) != expected:
        raise LineageMismatch(f"{where}/{ARRAYS} is missing or not the file that was written; {hint}")
    try:
        return make(content, folder / ARRAYS)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(where, kind, hint, error) from error


def _damaged(where: str, kind: FolderKind, hint: str, error: Exception) -> LineageMismatch:
    reason = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:100]
    return LineageMismatch(f"{where}/{kind.description} is damaged ({reason}); {hint}")
