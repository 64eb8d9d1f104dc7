"""Identifiers and array aliases of genekb."""

from typing import NewType

import numpy as np
from numpy.typing import NDArray

GeneID = NewType("GeneID", int)  # NCBI Gene identifier: the only join key
TaxID = NewType("TaxID", int)  # NCBI taxonomy identifier
TextID = NewType("TextID", str)  # sha256 (hex) of the exact text
EncoderID = NewType("EncoderID", str)  # name + short hash of the recipe

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
StrArray = NDArray[np.str_]
