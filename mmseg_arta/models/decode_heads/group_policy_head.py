"""Scores of groups of patches, and their targets (CTS 3.2, STEP 3.2.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...option_checks import (
    MOST_CHANNELS,
    MOST_PIXELS,
    MOST_WHOLE,
    check_choice,
    check_init_cfg,
    check_whole,
    check_wholes,
)
from .data_samples import stack_labels
from .stock_options import refuse_stock_options

#: What a group of one class and ignored pixels may count as.
MIXED = ('different', 'border', 'ignore')


def group_targets(
    labels: Tensor, side: int, ignore_index: int = 255, mixed: str = 'different'
) -> Tensor:
    """Whether all pixels of a group are of one class (CTS 3.2).

    A wholly ignored group counts as one class. What a group of one class and ignored pixels
    counts as is ``mixed``: 'different' classes (published for Cityscapes), 'border': ignored in
    the outermost rows and columns of groups and 'different' inside (published for ADE20K), or
    'ignore' everywhere.

    Args:
        labels: ``(B, H, W)`` label maps.
        side: side of a group in pixels; groups that the map cuts are left out.
        ignore_index: label of ignored pixels.
        mixed: see above.

    Returns:
        ``(B, H // side, W // side)`` int64: 1 one class, 0 several, 255 ignored.
    """
    if mixed not in MIXED:
        raise ValueError(f'mixed must be one of {MIXED}, found {mixed!r}')
    rows, cols = labels.shape[1] // side, labels.shape[2] // side
    blocks = labels[:, : rows * side, : cols * side].long()
    blocks = blocks.unflatten(2, (cols, side)).unflatten(1, (rows, side))
    low, high = blocks.amin((2, 4)), blocks.amax((2, 4))
    one = low == high
    target = one.long()
    if mixed == 'different':
        return target
    seen = blocks != ignore_index
    # Lowest and highest label among the pixels that are not ignored.
    lowest = torch.where(seen, blocks, torch.iinfo(torch.int64).max).amin((2, 4))
    highest = torch.where(seen, blocks, -1).amax((2, 4))
    both = ~one & (lowest == highest)
    if mixed == 'border':
        border = torch.zeros_like(both)
        for outermost in (slice(1), slice(-1, None)):
            border[:, outermost] = True
            border[:, :, outermost] = True
        both &= border
    return target.masked_fill(both, 255)


@MODELS.register_module()
class GroupPolicyHead(BaseModule):
    """Two logits, several classes and one class, for every group of patches.

    Groups of 2x2 patches are one cell of the features each, which enters a 1x1 convolution, as
    published. Larger groups, of which STEP does not tell more than that their features enter a
    linear layer, have one on the mean and the maximum of their cells, be they several or one.

    Args:
        group_sizes: sides of groups in patches: powers of two, ascending.
        in_channels: channels of the features.
        patch_size: side of a patch in pixels.
        stride: side of a cell of the features in pixels; a group's side is that of one or more
            cells.
        mixed: see :func:`group_targets`.
        num_classes: of the data set; the head itself knows none.
        ignore_index: label of ignored pixels.
        init_cfg: as in every mmengine module.

    Raises:
        ValueError: for groups that are no whole cells, or not in ascending powers of two; for
            groups of 2x2 patches that are several cells.
    """

    def __init__(
        self,
        group_sizes: Sequence[int] = (2,),
        in_channels: int = 320,
        patch_size: int = 16,
        stride: int = 32,
        mixed: str = 'different',
        num_classes: int = 150,
        ignore_index: int = 255,
        init_cfg: Mapping[str, Any] | None = None,
        **stock: Any,
    ) -> None:
        refuse_stock_options(
            self,
            stock,
            align_corners='nothing is resized: leave it out',
            out_channels='leave it out',
        )
        check_init_cfg(self, init_cfg)
        check_whole(self, most=MOST_CHANNELS, in_channels=in_channels, num_classes=num_classes)
        check_whole(self, most=MOST_PIXELS, patch_size=patch_size, stride=stride)
        check_choice(self, MIXED, mixed=mixed)
        check_whole(self, -MOST_WHOLE, ignore_index=ignore_index)
        super().__init__(init_cfg)
        self.group_sizes = check_wholes(self, 2, MOST_PIXELS, group_sizes=group_sizes)
        for size in self.group_sizes:
            if size & (size - 1) or size * patch_size % stride:
                raise ValueError(
                    f'GroupPolicyHead.group_sizes must be powers of two whose {patch_size} px '
                    f'patches make up multiples of {stride} px, found {self.group_sizes}'
                )
        if 2 in self.group_sizes and 2 * patch_size != stride:
            # They have no weights for a mean and a maximum.
            raise ValueError(
                f'GroupPolicyHead.group_sizes: groups of 2x2 patches of {patch_size} px must be as '
                f'large as a cell of {stride} px, leave them out of {self.group_sizes}'
            )
        if sorted(set(self.group_sizes)) != list(self.group_sizes):
            raise ValueError(f'GroupPolicyHead.group_sizes must ascend, found {self.group_sizes}')
        self.patch_size, self.stride, self.mixed = patch_size, stride, mixed
        self.num_classes, self.ignore_index = num_classes, ignore_index
        # Attributes that the stock segmentor reads.
        self.out_channels, self.align_corners, self.threshold = 2, False, None
        self.convs = nn.ModuleDict(
            {
                str(size): nn.Conv2d(in_channels * (1 if size == 2 else 2), 2, 1)
                for size in self.group_sizes
            }
        )

    def forward(self, inputs: Sequence[Tensor], grid: tuple[int, int]) -> dict[int, Tensor]:
        """Logits of all whole groups.

        Args:
            inputs: maps of the backbone; the last one is used.
            grid: rows and columns of patches.

        Returns:
            group size to ``(B, 2, rows // size, columns // size)``.
        """
        feats = inputs[-1]
        out = {}
        for size in self.group_sizes:
            rows, cols = grid[0] // size, grid[1] // size
            cells = size * self.patch_size // self.stride
            part = feats[:, :, : rows * cells, : cols * cells]
            if not rows * cols:
                out[size] = feats.new_zeros((len(feats), 2, rows, cols))
                continue
            if size > 2:
                part = torch.cat((F.avg_pool2d(part, cells), F.max_pool2d(part, cells)), 1)
            out[size] = self.convs[str(size)](part)
        return out

    def loss(
        self,
        inputs: Sequence[Tensor],
        batch_data_samples: Sequence[Any],
        train_cfg: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Mean cross-entropy per group size, against targets made from ``gt_sem_seg``."""
        labels = stack_labels(batch_data_samples)
        patch = self.patch_size
        grid = (-(-labels.shape[1] // patch), -(-labels.shape[2] // patch))
        losses = {}
        for size, logits in self.forward(inputs, grid).items():
            target = group_targets(labels, size * patch, self.ignore_index, self.mixed)
            # Groups that the image cuts have no target.
            logits = logits[:, :, : target.shape[1], : target.shape[2]].float()
            total = F.cross_entropy(logits, target, ignore_index=255, reduction='sum')
            # Without a group of this size the sum is an empty one, and still in the graph.
            empty = sum(parameter.sum() for parameter in self.convs[str(size)].parameters()) * 0
            losses[f'loss_groups_{size}'] = total / (target != 255).sum().clamp(min=1) + empty
        return losses

    def predict(
        self,
        inputs: Sequence[Tensor],
        batch_img_metas: Sequence[Mapping[str, Any]],
        test_cfg: Mapping[str, Any] | None = None,
    ) -> dict[int, Tensor]:
        """P(one class) of all groups that lie in the image, see :meth:`forward`."""
        height, width = batch_img_metas[0]['img_shape'][:2]
        grid = (height // self.patch_size, width // self.patch_size)
        logits = self.forward(inputs, grid)
        return {size: maps.float().softmax(1)[:, 1] for size, maps in logits.items()}
