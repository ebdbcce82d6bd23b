"""Small layers of all families: stochastic depth, layer scale, feed-forward networks, maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DropPath(nn.Module):
    """Drop a residual branch for a random subset of the images of a batch.

    Packed tokens have no batch dimension, so the mask is drawn per image and
    spread over its rows.

    Args:
        prob: probability of dropping, in [0, 1).
    """

    def __init__(self, prob: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= prob < 1.0:
            raise ValueError(f'drop path probability must be in [0, 1), found {prob}')
        self.prob = prob

    def forward(self, x: Tensor, batch: Tensor | None = None, batch_size: int = 0) -> Tensor:
        """Args:
        x: ``(B, ...)``, or packed ``(T, C)`` when ``batch`` is given.
        batch: ``(T,)`` int64 image of every row.
        batch_size: number of images, needed with ``batch``.
        """
        if not self.training or self.prob == 0.0:
            return x
        images = x.shape[0] if batch is None else batch_size
        keep = 1.0 - self.prob
        scale = torch.empty(images, dtype=x.dtype, device=x.device).bernoulli_(keep).div_(keep)
        if batch is not None:
            scale = scale.index_select(0, batch)
        return x * scale.view(-1, *([1] * (x.ndim - 1)))

    def extra_repr(self) -> str:
        return f'prob={self.prob:.3f}'


class LayerScale(nn.Module):
    """Multiply by a learned vector ``(dim,)`` that starts at ``init``.

    Args:
        dim: channels.
        init: initial value.
    """

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def layer_scale(dim: int, init: float) -> nn.Module:
    """A :class:`LayerScale`, or identity when ``init`` is 0."""
    return LayerScale(dim, init) if init else nn.Identity()


def to_maps(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """View rows ``(B, N, C)`` in raster order of ``grid`` as maps ``(B, C, rows, columns)``.

    PyTorch knows them as channels last, for a single image too. Made by transposing and
    unflattening, the maps of one image would have the channels' stride along the batch; PyTorch
    takes those for channels first, and depth-wise convolutions on a CPU then take many times as
    long.
    """
    return x.unflatten(1, grid).permute(0, 3, 1, 2)


def to_rows(maps: Tensor) -> Tensor:
    """Maps ``(B, C, rows, columns)`` as rows ``(B, N, C)``, a view if channels are last."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


def for_convolutions(image: Tensor) -> Tensor:
    """``image (B, C, H, W)`` with channels last if on a CPU.

    Convolutions of few channels, and all that follow, are several times as fast there that way.
    """
    if image.device.type == 'cpu':
        return image.contiguous(memory_format=torch.channels_last)
    return image


def wide_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """``layer(x)`` in float32, or float64 if the layer is: for values that are compared."""
    kind = torch.promote_types(layer.weight.dtype, torch.float32)
    if layer.weight.dtype == kind:
        return layer(x.to(kind))
    bias = None if layer.bias is None else layer.bias.to(kind)
    return F.linear(x.to(kind), layer.weight.to(kind), bias)


class Mlp(nn.Module):
    """Linear - GELU - Linear.

    Args:
        dim: input channels.
        hidden: hidden channels.
        out: output channels, ``dim`` by default.
    """

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, out or dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class ConvMlp(nn.Module):
    """Linear - 3x3 depth-wise convolution - GELU - Linear on a raster grid of tokens.

    The published ARTA and DUPS use it in their ViT blocks.

    Args:
        dim: input and output channels.
        hidden: hidden channels.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """``x (B, N, C)`` in raster order of ``grid`` (rows, columns), ``N = rows * columns``."""
        maps = self.dwconv(to_maps(self.fc1(x), grid))
        return self.fc2(self.act(to_rows(maps)))
