"""A second device for tests without a GPU: results as on the CPU, and an error where tensors of both devices meet."""

from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

DEVICE = torch.device("meta")
MAY_MEET = {"aten.copy_.default", "aten._to_copy.default"}  # what a GPU lets both devices take part in


class Elsewhere(torch.Tensor):
    """Says that it lies on another device, and holds its values on the CPU, where nothing else can reach them."""

    @staticmethod
    def __new__(cls, inner):
        strides = {"strides": inner.stride()} if inner.layout == torch.strided else {}
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, dtype=inner.dtype, device=DEVICE, requires_grad=inner.requires_grad, **strides
        )

    def __init__(self, inner):
        self.inner = inner

    @property
    def layout(self):
        """Layout of the values: PyTorch Geometric knows sparse tensors by it."""
        return self.inner.layout

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


def dispatch(func, args, kwargs):
    flat, spec = tree_flatten((args, kwargs))
    tensors = [value for value in flat if isinstance(value, torch.Tensor)]
    there = [value for value in tensors if isinstance(value, Elsewhere)]
    here = [value for value in tensors if not isinstance(value, Elsewhere) and value.dim() > 0]
    if there and here and str(func) not in MAY_MEET:
        raise RuntimeError(f"{func} meets tensors of both devices: {[tuple(value.shape) for value in here]}")
    wanted = kwargs.get("device")
    is_there = bool(there) if wanted is None else torch.device(wanted) == DEVICE
    inner_args, inner_kwargs = tree_unflatten(
        [value.inner if isinstance(value, Elsewhere) else value for value in flat], spec
    )
    if "device" in inner_kwargs:
        inner_kwargs["device"] = torch.device("cpu")
    if str(func) == "aten.copy_.default":
        inner_args[0].copy_(inner_args[1])
        return args[0]
    result = func(*inner_args, **inner_kwargs)
    if not is_there:
        return result
    result = tree_map(lambda value: Elsewhere(value) if isinstance(value, torch.Tensor) else value, result)
    return return_and_correct_aliasing(func, args, kwargs, result) if there else result


@contextmanager
def second_device():
    """Make the device ``meta`` stand for one that is not the CPU."""
    with Mode(), patch("torch.inference_mode", torch.no_grad):  # which such tensors cannot stand
        yield DEVICE
