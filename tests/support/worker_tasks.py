"""What training processes do in tests: functions of a module, so that the processes find them."""

import os
import signal
from pathlib import Path

import torch

from cellmodel.core.errors import TrainingDiverged


def own_sum(arrays, *, workers, factor):
    """Rank, share of the rows and the gathered product of each worker, as the first one sees it."""
    rows = workers.share(torch.arange(len(arrays["values"])))
    own = factor * torch.from_numpy(arrays["values"][rows.numpy()])
    return workers.rank, len(rows), workers.gather({"x": own})["x"].numpy()


def gradient(arrays, *, workers):
    """Gradient of a loss that couples all rows, from the own rows alone, summed over the workers."""
    weights = torch.arange(6, dtype=torch.float64).reshape(3, 2).requires_grad_()
    rows = workers.share(torch.arange(len(arrays["x"])))
    z = workers.gather({"z": torch.from_numpy(arrays["x"][rows.numpy()]) @ weights})["z"]
    torch.logsumexp((z @ z.T).flatten(), dim=0).backward()
    torch.distributed.all_reduce(weights.grad)
    return weights.grad.numpy()


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
