"""An order of the cells that depends on what they hold and not on where they stand."""

import numpy as np
from jaxtyping import Float, Int


def content_order(features: Float[np.ndarray, "cell dim"]) -> Int[np.ndarray, " cell"]:
    """Order of the cells by their features, the first one first; equal cells stay as they stand."""
    leading = np.asarray(features[:, 0])
    order = np.argsort(leading, kind="stable")
    same_as_next = np.diff(leading[order]) == 0
    is_tied = np.append(same_as_next, False) | np.append(False, same_as_next)
    tied = order[is_tied]  # few, so that the other features are looked at for these alone
    order[is_tied] = tied[np.lexsort(features[tied].T[::-1])]
    return order
