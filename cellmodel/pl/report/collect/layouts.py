"""Coordinates of the map: those of the file, of a run, of the tissue, or the graph of the cells laid out."""

import base64
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float, Int

from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellGraph, Embedding
from cellmodel.core.config import GraphConfig, RunConfig
from cellmodel.core.errors import TrainingDiverged
from cellmodel.io.backed import AnyCells
from cellmodel.nn.train import AdamW, TrainConfig, batches
from cellmodel.pl.report.collect.data import Layout, TissueImage
from cellmodel.pp.features import make_features
from cellmodel.pp.neighbors import knn_graph, snn_weights

if TYPE_CHECKING:
    from anndata import AnnData

MOST_LAYOUTS: Final = 6
_MOST_PIXELS: Final = 600  # of a side of the picture behind the tissue


def read_layouts(cells: AnyCells, key: str, record: Mapping[str, Any]) -> tuple[Layout, ...]:
    """Find the maps of the cells, the one to show first before the others.

    The user's own come first (``X_umap``, ``X_tsne``, others of two columns), then that of the run, then the tissue,
    which comes before all where the run used it. Where there is none, cells are laid out from their components.
    """
    adata, seed = cells.adata, int(record.get("seed", 0))
    found = [*_own(adata), *_of_run(adata, key, record, seed=seed)]
    tissue = _tissue(adata)
    if tissue is not None:
        found.insert(0 if record.get("params", {}).get("spatial") else len(found), tissue)
    return tuple(found[:MOST_LAYOUTS]) or (_from_components(cells, seed=seed),)


def _own(adata: "AnnData") -> Iterator[Layout]:
    for name in dict.fromkeys(["X_umap", "X_tsne", *(name for name in adata.obsm if name.startswith("X_"))]):
        values = _finite_numbers(adata, name)
        if values is not None and values.shape[1] == 2:  # noqa: PLR2004 - a plane
            yield Layout(name=f'obsm["{name}"] of the file', coordinates=values)


def _of_run(adata: "AnnData", key: str, record: Mapping[str, Any], *, seed: int) -> Iterator[Layout]:
    own = f"X_{key}_expr"
    if "n_clusters" in record and own in adata.obsm and f"{key}_connectivities" in adata.obsp:
        laid_out = neighbor_embedding(np.asarray(adata.obsm[own]), adata.obsp[f"{key}_connectivities"], seed=seed)
        yield Layout(name="a neighbor embedding of the expression view", coordinates=laid_out)


def _from_components(cells: AnyCells, *, seed: int) -> Layout:
    pcs = _finite_numbers(cells.adata, "X_pca")
    if pcs is not None:
        laid_out = neighbor_embedding(pcs, snn_weights(knn_graph(pcs, config=GraphConfig())), seed=seed)
        return Layout(name='a neighbor embedding of obsm["X_pca"] of the file', coordinates=laid_out)
    features = make_features(cells, RunConfig(seed=seed))
    laid_out = neighbor_embedding(features.pcs, features.graph, seed=seed)
    return Layout(name="a neighbor embedding of principal components", coordinates=laid_out)


def _finite_numbers(adata: "AnnData", name: str) -> Embedding | None:
    """Slot of obsm with a number in every place; None where it is missing or holds anything else."""
    values = np.asarray(adata.obsm[name]) if name in adata.obsm else np.empty(0)
    is_usable = values.ndim == 2 and values.dtype.kind in "fiu" and np.isfinite(values).all()  # noqa: PLR2004
    return values.astype(np.float64) if is_usable else None


def _tissue(adata: "AnnData") -> Layout | None:
    """Places of the cells in a tissue, with the picture that ``uns["spatial"]`` has of it."""
    places = _finite_numbers(adata, "spatial")
    if places is None or places.shape[1] < 2 or (places == places[0]).all():  # noqa: PLR2004 - a plane
        return None
    name = 'the tissue, obsm["spatial"] of the file'
    return Layout(name=name, coordinates=places[:, :2], is_tissue=True, image=_image(adata.uns.get("spatial")))


def _image(libraries: Any) -> TissueImage | None:
    """Read the picture of a single library, as scanpy keeps it; None where there is none, or several."""
    if not isinstance(libraries, Mapping) or len(libraries) != 1:
        return None
    (library,) = libraries.values()
    pictures, scales = library.get("images", {}), library.get("scalefactors", {})
    for kind in ("lowres", "hires"):
        scale = scales.get(f"tissue_{kind}_scalef")
        if kind in pictures and scale:
            pixels = np.asarray(pictures[kind])[..., :3]
            step = max(1, -(-max(pixels.shape[:2]) // _MOST_PIXELS))
            if pixels.dtype.kind == "f":
                pixels = np.round(255 * pixels.clip(0, 1))
            pixels = pixels[::step, ::step].astype(np.uint8)
            height, width = pixels.shape[:2]
            unit = step / float(scale)  # of the coordinates, a pixel
            return TissueImage(uri=png_uri(pixels), width=width * unit, height=height * unit)
    return None


def png_uri(pixels: np.ndarray) -> str:
    """Write red, green and blue of (row, column, 3) bytes as a PNG, inside an address that needs no request."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), dtype=np.uint8)  # each row begins with its filter, here none
    rows[:, 1:] = pixels.reshape(height, -1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode("ascii")


N_NEGATIVES: Final = 10
N_STEPS, BATCH_SIZE, LEARNING_RATE = 500, 16_384, 0.1

Plane = Float[np.ndarray, "axis cell"]
Ends = Int[np.ndarray, " edge"]


def neighbor_embedding(features: Embedding, graph: CellGraph, *, seed: int, n_steps: int = N_STEPS) -> Embedding:
    r"""Lay cells out in the plane by contrastive neighbor embedding :cite:`damrich2023tsne` (InfoNC-t-SNE, eq. 12).

    .. math:: -\log\frac{q_{ij}}{q_{ij} + \sum_k q_{ik}}, \quad q_{ij} = (1 + \lVert y_i - y_j\rVert^2)^{-1}

    for neighbors *i*, *j* and randomly drawn *k*; started from the first two columns of the features, by Adam. Returns
    (cell, 2) float32. Distances between far groups mean nothing.
    """
    start = np.zeros((len(features), 2))
    start[:, : min(2, features.shape[1])] = features[:, :2]
    start = start / max(float(start.std(axis=0).max()), 1e-12)
    edges = graph.tocoo()
    if edges.nnz < 2:  # noqa: PLR2004 - a contrast needs two edges
        return start.astype(np.float32)
    plane = np.ascontiguousarray(start.T, dtype=np.float32)
    optimizer = AdamW({"plane": plane}, LEARNING_RATE)
    config = TrainConfig(n_steps=n_steps, batch_size=BATCH_SIZE)
    for rows, _ in batches(edges.nnz, config, seeding.generator(seed, "layout")):
        optimizer.step({"plane": neighbor_gradient(plane, edges.row[rows], edges.col[rows])})
    if not np.isfinite(plane).all():
        raise TrainingDiverged("the layout of the cells is not finite; check the input for extreme values")
    return np.ascontiguousarray(plane.T)


def neighbor_gradient(plane: Plane, cell: Ends, near: Ends) -> Plane:
    """Gradient of the mean loss of some edges: each is contrasted with the ends of the edges before it in the batch."""
    n_edges = len(cell)
    at_cell, at_near = plane[:, cell], plane[:, near]  # (axis, edge)
    rolled = np.take(at_near, np.arange(-N_NEGATIVES, n_edges), axis=1, mode="wrap")
    ends = np.lib.stride_tricks.sliding_window_view(rolled, n_edges, axis=1)[:, ::-1]  # (axis, 1 + negative, edge)
    offset = ends - at_cell[:, None]
    nearness = 1 / (1 + np.square(offset).sum(axis=0))  # (1 + negative, edge)
    pull = nearness / nearness.sum(axis=0)
    pull[0] -= 1
    pull *= nearness * np.float32(-2 / n_edges)
    offset *= pull
    of_near = offset[:, 0].astype(np.float64)
    for shift in range(1, N_NEGATIVES + 1):
        of_near += np.roll(offset[:, shift], -shift, axis=1)
    of_cell = -offset.sum(axis=1)
    n_cells = plane.shape[1]
    sums = [
        np.bincount(cell, a, n_cells) + np.bincount(near, b, n_cells) for a, b in zip(of_cell, of_near, strict=True)
    ]
    return np.array(sums, dtype=np.float32)
