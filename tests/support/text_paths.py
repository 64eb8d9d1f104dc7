"""Text maps of gene vectors that are not whitened."""

import numpy as np

from cellmodel.pp.text.align import Whitening
from cellmodel.pp.text.view import fit_text_map


def fitted_map(expression, vectors):
    """Map fitted to the cells, whose gene vectors are those given; every gene has one."""
    as_given = Whitening(mean=np.zeros(vectors.shape[1]), components=np.eye(vectors.shape[1], dtype=vectors.dtype))
    return fit_text_map(expression, vectors, has_vector=np.ones(len(vectors), dtype=bool), whitening=as_given)
