"""Makes problems for the kernels of tensors that fit, and tells which one does not."""

from __future__ import annotations

import torch
from torch import Tensor

from ...structures import FINEST_PATCH
from . import interface

#: Codes of number types, as ``ArtaType``.
TYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}


class Target:
    """What kernels of a back end take.

    Args:
        device: type of the devices that tensors must lie on, 'cpu' or 'cuda'.
        types: number types of features.
    """

    def __init__(self, device: str, types: tuple[torch.dtype, ...]) -> None:
        self.device, self.types = device, types
        self._lies_there = f'is_{device}'

    def address(self, name: str, tensor: Tensor, dtype: torch.dtype, *shape: int) -> int:
        """Address of a dense tensor.

        Raises:
            ValueError: if the tensor is not what the kernel expects.
        """
        if (
            tensor.dtype != dtype
            or tensor.shape != shape
            or not getattr(tensor, self._lies_there)
            or not tensor.is_contiguous()
        ):
            raise ValueError(
                f'{name}: expected a contiguous {dtype} tensor {shape} on {self.device}, found '
                f'{tensor.dtype} {tuple(tensor.shape)} with strides {tensor.stride()} on '
                f'{tensor.device}'
            )
        return tensor.data_ptr()

    def number_types(self, name: str, tensor: Tensor) -> tuple[torch.dtype, torch.dtype]:
        """The number type of features, and that of what takes more digits.

        Raises:
            ValueError: if kernels do not compute in it.
        """
        if tensor.dtype not in self.types:
            expected = ' or '.join(map(str, self.types))
            raise ValueError(f'{name}: expected {expected}, found {tensor.dtype}')
        return tensor.dtype, wide_type(tensor.dtype)


def wide_type(dtype: torch.dtype) -> torch.dtype:
    """The type of what takes more digits than features: float32, or float64 beside float64."""
    return torch.promote_types(dtype, torch.float32)


def stream(tensor: Tensor) -> int | None:
    """The stream that work on a tensor's device goes to, None on the CPU."""
    return torch.cuda.current_stream(tensor.device).cuda_stream if tensor.is_cuda else None


def run(tensor: Tensor) -> interface.Run:
    """How to run on features like these."""
    code = TYPES.get(tensor.dtype, 0)
    return interface.Run(code, torch.get_num_threads(), stream(tensor))


def attention(
    target: Target,
    q: Tensor,
    kv: Tensor,
    bias_weight: Tensor,
    bias_bias: Tensor,
    blank_k: Tensor,
    blank_v: Tensor,
    xy: Tensor,
    start: Tensor,
    neighbors: Tensor,
    cluster_size: int,
    blank_clamp: float,
) -> interface.Attention:
    """Arguments of :func:`mmseg_arta.ops.registered.cluster_attention.forward`."""
    (total, heads, dim), width = q.shape, neighbors.shape[1]
    real, wide = target.number_types('q', q)
    at = target.address
    return interface.Attention(
        at('q', q, real, total, heads, dim),
        at('kv', kv, real, total, heads, 2, dim),
        at('bias_weight', bias_weight, wide, heads, 5),
        at('bias_bias', bias_bias, wide, heads),
        at('blank_k', blank_k, wide, heads, dim),
        at('blank_v', blank_v, wide, heads, dim),
        at('xy', xy, torch.int32, total, 2),
        at('start', start, torch.int64, start.shape[0]),
        at('neighbors', neighbors, torch.int64, total, width),
        *(total, start.shape[0] - 1, heads, dim, width, cluster_size, blank_clamp),
        run(q),
    )


def deform(
    target: Target,
    value: Tensor,
    centers: Tensor,
    nearest: Tensor,
    batch: Tensor,
    location: Tensor,
    weight: Tensor,
    power: Tensor,
    floor: float,
    eps: float,
) -> interface.Deform:
    """Arguments of :func:`mmseg_arta.ops.registered.point_deform_attention.forward`."""
    values, heads, dim = value.shape
    queries, _, levels, points = weight.shape
    _, images, rows, columns, k = nearest.shape
    real, wide = target.number_types('value', value)
    at, index = target.address, torch.int64
    return interface.Deform(
        at('value', value, real, values, heads, dim),
        at('centers', centers, wide, values, 2),
        at('nearest', nearest, index, levels, images, rows, columns, k),
        at('batch', batch, index, queries),
        at('location', location, wide, queries, heads, levels, points, 2),
        at('weight', weight, wide, queries, heads, levels, points),
        at('power', power, wide, 1),
        *(values, queries, heads, dim, levels, points, images, rows, columns, k, floor, eps),
        run(value),
    )


def merge(target: Target, feats: Tensor, rows: Tensor, weights: Tensor) -> interface.Merge:
    """Arguments of :func:`mmseg_arta.ops.registered.neighborhood_merge.forward`."""
    (values, dim), (places, k, sets) = feats.shape, weights.shape
    real, _ = target.number_types('feats', feats)
    return interface.Merge(
        target.address('feats', feats, real, values, dim),
        target.address('rows', rows, torch.int64, places, k),
        target.address('weights', weights, real, places, k, sets),
        *(values, places, k, sets, dim),
        run(feats),
    )


def patches(
    target: Target, pixels: Tensor, xy: Tensor, batch: Tensor, shape: tuple[int, ...], size: int
) -> interface.Patches:
    """Patches of images of some shape; ``pixels`` are what is read."""
    total = xy.shape[0]
    return interface.Patches(
        target.address('xy', xy, torch.int32, total, 2),
        target.address('batch', batch, torch.int64, total),
        *(total, *shape, size, FINEST_PATCH, pixels.element_size()),
        run(pixels),
    )
