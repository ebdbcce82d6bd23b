"""Inputs of the ops at given sizes, in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmseg_arta.ops import build_neighborhood
from mmseg_arta.structures import Neighborhood
from tests.helpers import mixed_places

CANVAS = (56, 40)
#: Inputs with gradients.
ATTENTION_INPUTS = ('q', 'kv', 'bias_weight', 'bias_bias', 'blank_k', 'blank_v')
DEFORM_INPUTS = ('value', 'location', 'weight', 'power')
#: Rows and columns of cells of deformable attention.
GRID = (9, 13)


def attention_inputs(
    lengths: Sequence[int],
    heads: int,
    dim: int,
    cluster_size: int = 8,
    neighbors: int = 6,
    clamp: float | None = 5.0,
    scale: float = 1.0,
    seed: int = 0,
) -> tuple[list[Tensor], Neighborhood, float | None]:
    """Tensors of cluster attention and their neighbourhood; several tokens share a place."""
    xy, batch, counts = mixed_places(lengths, CANVAS, seed)
    level = torch.randint(0, 4, (len(xy), 1), generator=torch.Generator().manual_seed(seed))
    xy = (xy >> level << level).int()
    hood = build_neighborhood(xy, batch, counts, lengths, CANVAS, cluster_size, neighbors)
    total = sum(lengths)
    shapes = (
        (total, heads, dim),
        (total, heads, 2, dim),
        (heads, 5),
        (heads,),
        (heads, dim),
        (heads, dim),
    )
    torch.manual_seed(seed)
    tensors = [torch.randn(shape) for shape in shapes]
    tensors[0] *= scale
    tensors[2] *= 0.2
    return tensors, hood, clamp


def deform_inputs(
    values: int,
    queries: int,
    images: int,
    heads: int,
    dim: int,
    levels: int,
    points: int,
    k: int,
    power: float,
    seed: int = 0,
) -> tuple[list[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Tensors with gradients, and the function's other arguments."""
    torch.manual_seed(seed)
    centers = torch.randint(0, 26, (values, 2)) / 2
    nearest = torch.randint(-1, max(values, 1), (levels, images, *GRID, k))
    if values == 0:
        nearest.fill_(-1)
    cells = torch.randint(-2, 15, (queries, heads, levels, points, 2))
    # Not where a sample would change its cell. Some lie on tokens, where distances are at their
    # lower bound.
    location = cells + torch.empty(cells.shape).uniform_(-0.4, 0.4)
    on_token = torch.rand(location.shape[:-1]) < 0.1
    location[on_token] = location[on_token].round()
    tensors = [
        torch.randn(values, heads, dim),
        location,
        torch.rand(queries, heads, levels, points),
        torch.tensor([power]),
    ]
    return tensors, (centers, nearest, torch.randint(0, images, (queries,)))


def deform_call(
    module: Any, places: tuple[Tensor, ...], floor: float = 0.01, eps: float = 1e-6
) -> Callable[..., Tensor]:
    """Point deformable attention of a module as a function of its inputs with gradients."""
    centers, nearest, batch = places

    def function(value, location, weight, power):
        return module.point_deform_attention(
            value, centers.to(location), nearest, batch, location, weight, power, floor, eps
        )

    return function


def power_terms(
    tensors: Sequence[Tensor], places: tuple[Tensor, ...], truth: Callable[..., Tensor]
) -> float:
    """Sum of the sizes of what all pairs of a sample and a token add to the power's gradient."""
    value, location, weight, power = (t.double() for t in tensors)
    every = power.expand(*weight.shape, places[1].shape[-1]).clone().requires_grad_()
    out = truth(value, location, weight, every)
    torch.manual_seed(0)
    return float(torch.autograd.grad(out, every, torch.randn(out.shape).double())[0].abs().sum())


def merge_inputs(
    values: int, places: int, k: int, sets: int, channels: int, seed: int = 0
) -> tuple[list[Tensor], Tensor]:
    """Features and weights, and the rows of neighbours."""
    torch.manual_seed(seed)
    rows = torch.randint(-1, max(values, 1), (places, k))
    rows[::7] = -1
    if values == 0:
        rows.fill_(-1)
    return [torch.randn(values, channels), torch.randn(places, k, sets)], rows


def merge_call(module: Any, rows: Tensor) -> Callable[..., Tensor]:
    """Neighbourhood merge of a module as a function of its inputs with gradients."""
    return lambda feats, weights: module.neighborhood_merge(feats, rows, weights)


def patch_inputs(
    images: int, channels: int, rows: int, cols: int, size: int, total: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, int]:
    """An image of so many patches, and patches of which some occur twice."""
    torch.manual_seed(seed)
    image = torch.randn(images, channels, rows * size, cols * size)
    xy = torch.stack((torch.randint(0, cols, (total,)), torch.randint(0, rows, (total,))), 1)
    return image, (xy * (size // 4)).int(), torch.randint(0, images, (total,)), size


def score_inputs(
    images: int,
    queries: int,
    classes: int,
    rows: int,
    columns: int,
    cell: int,
    height: int,
    width: int,
    seed: int = 0,
) -> tuple[Tensor, Tensor, int, tuple[int, int]]:
    """Class probabilities, mask logits, side of a cell, size of the image."""
    torch.manual_seed(seed)
    probs = torch.rand(images, queries, classes)
    logits = torch.randn(images, queries, rows, columns) * 8
    return probs, logits, cell, (height, width)
