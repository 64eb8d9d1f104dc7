"""The cells of the demo: blood cells that come with scanpy."""

from cellmodel.io.formats.anndata import read_anndata
from cellmodel.tl._demo import find_demo_cells as demo_file


def demo_cells():
    """Read them with all genes that were measured."""
    return variable_demo_cells().raw.to_adata()


def variable_demo_cells():
    """Read them as they are, with their variable genes scaled."""
    return read_anndata(demo_file())
