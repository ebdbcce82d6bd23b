"""Merging: which groups of patches become one superpatch, and its token (CTS 3, STEP 3.2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...option_checks import MOST_PIXELS, check_config, check_share
from ...structures import host_sizes
from ..layers import to_maps, to_rows
from .tokens import TokenLayout

#: Per group size in patches: ``(B, rows // size, columns // size)``.
GroupMaps = dict[int, Tensor]
#: Merged groups per image and size (ascending), where known without reading the device.
GroupCounts = tuple[tuple[int, ...], ...]


@runtime_checkable
class MergingPolicy(Protocol):
    """What the backbone asks of a policy.

    Attributes:
        group_sizes: sides of the groups in patches, ascending.
    """

    group_sizes: tuple[int, ...]

    def __call__(self, scores: GroupMaps) -> tuple[GroupMaps, GroupCounts | None]:
        """Choose groups that do not overlap, from P(one class) of every whole group.

        Returns:
            bool maps of the same shapes, and how many groups were chosen if that is known.
        """
        ...


@MODELS.register_module()
class TopGroupMerging:
    """The most uniform groups of 2x2 patches, a fixed share of all (CTS 3.2).

    Args:
        share: merged groups over all groups, in [0, 1]; the number is rounded. As published 103
            of the 256 groups of a 512x512 image.
    """

    group_sizes = (2,)

    def __init__(self, share: float = 103 / 256) -> None:
        check_share(self, share=share)
        self.share = float(share)

    def __call__(self, scores: GroupMaps) -> tuple[GroupMaps, GroupCounts | None]:
        of_groups = scores[2].flatten(1).float()
        images, groups = host_sizes(of_groups)
        count = round(self.share * groups)
        chosen = torch.zeros_like(of_groups, dtype=torch.bool)
        # Among equal scores the first in raster order.
        first = of_groups.argsort(dim=1, descending=True, stable=True)[:, :count]
        # By the number 1: a graph of torch.jit has no scatter_ of a bool.
        chosen.scatter_(1, first, 1)
        return {2: chosen.view_as(scores[2])}, ((count,),) * images

    def __repr__(self) -> str:
        return f'{type(self).__name__}(share={self.share:.4f})'


@MODELS.register_module()
class ThresholdMerging:
    """Every group whose score exceeds its size's threshold, coarse to fine (STEP 3.2.1, dCTS).

    A group inside a larger merged group is not asked again.

    Args:
        thresholds: group side in patches to the threshold of P(one class). Written in a config
            with string keys, ``{'2': 0.6, '4': 0.8, '8': 0.9, '16': 0.9}``, since mmengine takes
            no other.

    Raises:
        ValueError: for sizes that are no powers of two above 1, or thresholds outside [0, 1].
    """

    def __init__(self, thresholds: Mapping[str, float]) -> None:
        check_config(self, thresholds=thresholds)
        if not thresholds:
            raise ValueError('ThresholdMerging.thresholds must name at least one group size')
        sizes = {}
        for key, value in thresholds.items():
            size = int(key) if str(key).isdecimal() else 0
            if size & (size - 1) or not 2 <= size <= MOST_PIXELS:
                raise ValueError(
                    f'ThresholdMerging.thresholds: sizes must be powers of two above 1, '
                    f'found {key!r}'
                )
            check_share(self, **{f'thresholds[{key}]': value})
            sizes[size] = float(value)
        self.thresholds = sizes
        self.group_sizes = tuple(sorted(sizes))

    def __call__(self, scores: GroupMaps) -> tuple[GroupMaps, GroupCounts | None]:
        chosen: GroupMaps = {}
        # Whether a group of the size just looked at lies in a merged group.
        taken: Tensor | None = None
        previous = 0
        for size in reversed(self.group_sizes):
            above = scores[size].float() > self.thresholds[size]
            if taken is not None:
                taken = _refine(taken, previous // size, above.shape)
                above = above & ~taken
            chosen[size] = above
            taken = above if taken is None else taken | above
            previous = size
        return chosen, None

    def __repr__(self) -> str:
        return f'{type(self).__name__}(thresholds={self.thresholds})'


def _refine(flags: Tensor, factor: int, shape: torch.Size) -> Tensor:
    """Flags of groups ``factor`` times as large, for the groups of ``shape`` inside them."""
    fine = flags.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    out = flags.new_zeros(shape)
    out[:, : fine.shape[1], : fine.shape[2]] = fine
    return out


def embed_supertokens(
    image: Tensor, layout: TokenLayout, projection: nn.Conv2d, positions: Tensor
) -> Tensor:
    """Supertokens of patches and superpatches (CTS 3.3; STEP 3.2, eq. 1).

    The pixels of a superpatch of ``s x s`` patches are resized bilinearly to one patch and
    projected as any patch; its position embedding is the mean over the patches it covers (for 2x2
    groups that is the published halving of both).

    Args:
        image: ``(B, C, H, W)``, padded to whole patches.
        layout: where the supertokens lie.
        projection: the patch projection.
        positions: ``(1, rows * columns, C)`` position embeddings of the layout's grid.

    Returns:
        ``(T, C)``.
    """
    if layout.owner is None:
        return (to_rows(projection(image)) + positions).flatten(0, 1)
    # Rows are sorted by image and size: gather size by size, then bring them back in order.
    order = layout.sizes.argsort(stable=True)
    image_of = layout.batch_index().index_select(0, order)
    places = layout.places.index_select(0, order)
    totals = [sum(count) for count in zip(*layout.counts, strict=True)]
    maps = to_maps(positions, layout.grid)
    pixels, means = [], []
    for batch, place, size in zip(
        image_of.split(totals), places.split(totals), layout.group_sizes, strict=True
    ):
        if len(batch):
            row, col = place.unbind(1)
            row, col = row // size, col // size
            pixels.append(_resized(image, size, layout.patch_size)[batch, row, col])
            means.append(F.avg_pool2d(maps, size)[0].permute(1, 2, 0)[row, col])
    feats = F.linear(torch.cat(pixels).flatten(1), projection.weight.flatten(1), projection.bias)
    back = torch.empty_like(order)
    back.scatter_(0, order, torch.arange(len(order), device=order.device))
    return (feats + torch.cat(means)).index_select(0, back)


def _resized(image: Tensor, size: int, patch: int) -> Tensor:
    """Whole superpatches as a patch each: view ``(B, rows, columns, 3, patch, patch)``."""
    side = size * patch
    rows, cols = (length // side for length in host_sizes(image)[2:])
    if size > 1 and rows and cols:
        image = F.interpolate(
            image[:, :, : rows * side, : cols * side],
            (rows * patch, cols * patch),
            mode='bilinear',
            align_corners=False,
        )
    image = image[:, :, : rows * patch, : cols * patch]
    return image.unflatten(3, (cols, patch)).unflatten(2, (rows, patch)).permute(0, 2, 4, 1, 3, 5)
