"""What training processes do in tests: functions of a module, so that the processes find them."""

import os
import signal
from pathlib import Path

import numpy as np
import torch

from cellmodel.core.errors import TrainingDiverged


def own_sum(arrays, *, workers, factor):
    """Rank, share of the rows and the gathered product of each worker, as the first one sees it."""
    rows = workers.share(np.arange(len(arrays["values"])))
    own = factor * arrays["values"][rows]
    (gathered,), place = workers.gather([own])
    np.testing.assert_array_equal(gathered[place], own)
    return workers.rank, len(rows), gathered


def gradient(arrays, *, workers):
    """Gradient of a loss that couples all rows, from the own rows alone, summed over the workers."""
    weights = np.arange(6.0).reshape(3, 2)
    own = arrays["x"][workers.share(np.arange(len(arrays["x"])))]
    (z,), place = workers.gather([own @ weights])
    products = np.exp(z @ z.T)
    of_z = 2 * (products / products.sum()) @ z
    return workers.add_up({"weights": own.T @ of_z[place]})["weights"]


def killed(arrays, *, workers, folder, times):
    """The second worker kills itself in the middle of a step, as often as it is told to."""
    attempt = len(list(Path(folder).iterdir()))
    torch.distributed.barrier()
    if workers.rank == 1:
        (Path(folder) / str(attempt)).touch()
        if attempt < times:
            os.kill(os.getpid(), signal.SIGKILL)
    torch.distributed.barrier()
    return attempt


def diverging(arrays, *, workers):
    raise TrainingDiverged("step 3: infinite")
