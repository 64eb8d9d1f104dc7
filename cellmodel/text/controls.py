"""Gene vectors as they are, and the two controls that show what their meaning contributed."""

import numpy as np

from cellmodel.core import random as seeding
from cellmodel.core.arrays import GeneVectors
from cellmodel.core.config import Knowledge


def apply_knowledge(vectors: GeneVectors, *, knowledge: Knowledge, seed: int) -> GeneVectors:
    """Return the vectors, or a control in their place.

    ``shuffled`` gives each gene another gene's vector, which keeps the shape of the cloud; ``random`` draws isotropic
    Gaussian directions, a stronger control, since text vectors are anisotropic and compress expression badly.

    ``vectors``: (gene, dim) of genes that have a text. ``knowledge``: ``real``, ``shuffled`` or ``random``. Raises
    ``ValueError`` if ``knowledge`` is ``none``: then there is no text view to make.
    """
    if knowledge == "real":
        return vectors
    if knowledge == "shuffled":
        return vectors[seeding.generator(seed, "shuffled genes").permutation(len(vectors))]
    if knowledge == "random":
        drawn = seeding.generator(seed, "random genes").standard_normal(vectors.shape).astype(np.float32)
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    raise ValueError(f"knowledge {knowledge!r} has no gene vectors; use real, shuffled or random")
