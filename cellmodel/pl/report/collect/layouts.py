"""Coordinates of the map that a reader can choose from: the user's own, those of a run, and the tissue."""

import base64
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cellmodel.core.arrays import Embedding
from cellmodel.core.config import GraphConfig, RunConfig
from cellmodel.io.backed import AnyCells
from cellmodel.pl.report.collect.data import Layout, TissueImage
from cellmodel.pl.report.collect.embedding import neighbor_embedding
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
