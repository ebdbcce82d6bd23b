"""The ops at the sizes that ARTA-Tiny with Mask2Former meets, and what they move and compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmseg_arta import ops
from mmseg_arta.structures import FINEST_PATCH, TokenSet, full_grid, offsets_from_lengths

#: Channels and heads at patches of 32, 16, 8 and 4 px.
DIMS, HEADS = (512, 256, 128, 64), (16, 8, 4, 2)
PATCHES = (32, 16, 8, 4)


@dataclass(frozen=True)
class Case:
    """One call of an op.

    Attributes:
        op: its name.
        name: where it occurs.
        call: makes the call with the back end that is chosen now.
        bytes: read and written at least: every input and output once.
        macs: multiply-accumulates of matrix-like products.
        leaves: inputs with gradients.
        reference_bytes: memory that the reference takes for intermediate results.
        reference_pairs: distances that the reference compares.
    """

    op: str
    name: str
    call: Callable[[], object]
    bytes: int
    macs: int = 0
    leaves: tuple[Tensor, ...] = ()
    reference_bytes: int = 0
    reference_pairs: int = 0


def size_of(*tensors: Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def levels_of(
    size: tuple[int, int], share: float, batch: int, device: str, seed: int = 0
) -> list[TokenSet]:
    """Token levels in which that share of every level's tokens has four finer ones."""
    generator = torch.Generator().manual_seed(seed)
    grid = (size[0] // PATCHES[0], size[1] // PATCHES[0])
    xy = [full_grid(1, grid, PATCHES[0], torch.device('cpu')) for _ in range(batch)]
    levels = []
    for index, patch in enumerate(PATCHES):
        if index:
            step = torch.tensor([(0, 0), (1, 0), (0, 1), (1, 1)]) * (patch // FINEST_PATCH)
            for image, parents in enumerate(xy):
                chosen = torch.randperm(len(parents), generator=generator)
                chosen = chosen[: int(len(parents) * share)]
                places = (parents[chosen][:, None] + step).view(-1, 2)
                key = places[:, 1].long() * (1 << 20) + places[:, 0]
                xy[image] = places[key.argsort()].int()
        lengths = tuple(len(places) for places in xy)
        every = torch.cat(xy).to(device)
        offsets = offsets_from_lengths(lengths, every.device)
        shape = (size[0] // patch, size[1] // patch)
        feats = torch.zeros(len(every), 1, device=device)
        levels.append(TokenSet(feats, every, offsets, lengths, patch, shape))
    return levels


def joined(levels: list[TokenSet]) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
    """``xy``, image, tokens per image on the device and on the host, of all levels together."""
    lengths = tuple(sum(counts) for counts in zip(*(lv.lengths for lv in levels), strict=True))
    return (
        torch.cat([level.xy for level in levels]),
        torch.cat([level.batch_index() for level in levels]),
        torch.stack([level.offsets.diff() for level in levels]).sum(0),
        lengths,
    )


def cases(
    size: tuple[int, int], share: float, batch: int, device: str, dtype: torch.dtype
) -> Iterator[Case]:
    """All ops at the sizes of one image size and share of selected tokens."""
    levels = levels_of(size, share, batch, device)
    canvas = (size[0] // FINEST_PATCH, size[1] // FINEST_PATCH)
    for last in (1, 2, 3):
        yield from attention_cases(levels[: last + 1], canvas, last, device, dtype)
    yield from decoder_cases(levels, canvas, device)
    image = torch.randn(batch, 3, *size, device=device).to(dtype)
    for level in levels[1:]:
        xy, image_of, patch = level.xy, level.batch_index(), level.patch_size
        pixels = len(level) * 3 * patch * patch * image.element_size()
        yield Case(
            'gather_patches',
            f'{patch} px',
            lambda xy=xy, image_of=image_of, patch=patch: ops.gather_patches(
                image, xy, image_of, patch
            ),
            2 * pixels + size_of(xy, image_of),
        )
    yield scores_case(size, batch, device)
    yield Case(
        'finest_token_map',
        'all levels',
        lambda: ops.finest_token_map(levels),
        canvas[0] * canvas[1] * batch * 8 + sum(size_of(level.xy) for level in levels),
    )


def scores_case(
    size: tuple[int, int], batch: int, device: str, queries: int = 100, classes: int = 150
) -> Case:
    """The decoder's prediction, in float32, from masks at the finest patches."""
    probs = torch.rand(batch, queries, classes, device=device)
    rows, columns = size[0] // FINEST_PATCH, size[1] // FINEST_PATCH
    logits = torch.randn(batch, queries, rows, columns, device=device)
    pixels = batch * size[0] * size[1]
    return Case(
        'class_scores',
        'prediction',
        lambda: ops.class_scores(probs, logits, FINEST_PATCH, size),
        size_of(probs, logits) + pixels * classes * 4,
        pixels * queries * classes,
        # Masks at the size of the image, before and after the sigmoid.
        reference_bytes=2 * pixels * queries * 4,
    )


def attention_cases(
    levels: list[TokenSet], canvas: tuple[int, int], last: int, device: str, dtype: torch.dtype
) -> Iterator[Case]:
    xy, image, counts, lengths = joined(levels)
    hood = ops.build_neighborhood(xy, image, counts, lengths, canvas)
    name = f'{PATCHES[last]} px'
    yield Case(
        'balanced_clusters',
        name,
        lambda: ops.balanced_clusters(xy, image, counts, canvas),
        size_of(xy, image, hood.order, hood.start),
    )
    yield Case(
        'nearest_clusters',
        name,
        lambda: ops.nearest_clusters(hood.xy, hood.start, lengths),
        size_of(hood.xy, hood.start, hood.neighbors),
        reference_pairs=sum(length * (length // 8) for length in lengths),
    )
    total, heads, dim = len(xy), HEADS[last], DIMS[last] // HEADS[last]
    shapes = ((total, heads, dim), (total, heads, 2, dim))
    tensors = [torch.randn(s, device=device).to(dtype).requires_grad_() for s in shapes]
    rest = [
        torch.randn(s, device=device).requires_grad_()
        for s in ((heads, 5), (heads,), (heads, dim), (heads, dim))
    ]
    yield Case(
        'cluster_attention',
        name,
        lambda: ops.cluster_attention(*tensors, *rest, hood),
        size_of(*tensors, tensors[0], hood.xy, hood.neighbors, hood.start),
        total * heads * 48 * (2 * dim + 5),
        (*tensors, *rest),
        # Keys, values and their products with queries and weights, gathered per neighbour.
        total * 48 * 4 * heads * dim * 4,
    )


def decoder_cases(
    levels: list[TokenSet], canvas: tuple[int, int], device: str, heads: int = 8, dim: int = 32
) -> Iterator[Case]:
    """The point pixel decoder, which computes in float32."""
    coarse, finest = levels[:-1], levels[-1]
    nearest, first = [], 0
    for level in coarse:
        nearest.append(ops.nearest_tokens_of_cells(level, canvas, 4).shifted(first))
        first += len(level)
    grids = torch.stack(nearest)
    yield Case(
        'nearest_tokens',
        'cells of 3 levels',
        lambda: [ops.nearest_tokens_of_cells(level, canvas, 4) for level in coarse],
        size_of(grids),
    )
    own = ops.nearest_tokens(finest.centers(), finest.lengths, finest, 9).rows
    yield Case(
        'nearest_tokens',
        'PointConv',
        lambda: ops.nearest_tokens(finest.centers(), finest.lengths, finest, 9),
        size_of(own, finest.centers()),
    )
    centers = torch.cat([level.centers() for level in coarse])
    image = torch.cat([level.batch_index() for level in coarse])
    shape = (len(centers), heads, len(coarse), 4)
    value = torch.randn(len(centers), heads, dim, device=device, requires_grad=True)
    offsets = torch.randn(*shape, 2, device=device) * 4
    location = (centers[:, None, None, None] + offsets).requires_grad_()
    weight = torch.rand(shape, device=device).softmax(-1).requires_grad_()
    power = torch.tensor([3.0], device=device, requires_grad=True)
    yield Case(
        'point_deform_attention',
        'encoder layer',
        lambda: ops.point_deform_attention(value, centers, grids, image, location, weight, power),
        size_of(value, value, location, weight, centers, image),
        weight.numel() * 4 * dim,
        (value, location, weight, power),
    )
    feats = torch.randn(len(finest), heads * dim, device=device, requires_grad=True)
    weights = torch.randn(len(finest), 9, 4, device=device, requires_grad=True)
    yield Case(
        'neighborhood_merge',
        'PointConv',
        lambda: ops.neighborhood_merge(feats, own, weights),
        size_of(feats, own, weights) + 4 * size_of(feats),
        weights.numel() * heads * dim,
        (feats, weights),
    )
