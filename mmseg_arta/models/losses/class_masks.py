"""Targets of mask classification, one mask per class of an image, and where to sample masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ClassMasks:
    """Masks of the classes present in a batch, kept as label maps.

    The masks of an image are the sets of pixels of one label. Ignored pixels belong to none.

    Attributes:
        labels: ``(B, H, W)`` label maps.
        classes: ``(B, M)`` int64 classes present, ascending; -1 fills up images with fewer
            than ``M``.
        counts: classes per image, on the host.
    """

    labels: Tensor
    classes: Tensor
    counts: tuple[int, ...]

    @classmethod
    def of(cls, labels: Tensor, num_classes: int, ignore_index: int = 255) -> ClassMasks:
        """Find the classes of every image, by one synchronisation with the device.

        Args:
            labels: ``(B, H, W)`` integer label maps.
            num_classes: labels are below it, or ``ignore_index``.
            ignore_index: label of ignored pixels.

        Raises:
            ValueError: naming a label that is neither a class nor ``ignore_index``.
        """
        batch = labels.shape[0]
        # A slot for each class, one for ignored pixels, one for invalid labels.
        slot = labels.long()
        known = (slot >= 0) & (slot < num_classes)
        slot = torch.where(known, slot, num_classes + 1)
        slot = torch.where(labels == ignore_index, num_classes, slot)
        slot = slot + torch.arange(batch, device=labels.device)[:, None, None] * (num_classes + 2)
        present = torch.zeros(batch * (num_classes + 2), dtype=torch.bool, device=labels.device)
        present[slot.flatten()] = True
        table = present.view(batch, -1).cpu()
        if table[:, -1].any():
            bad = labels[(labels < 0) | (labels >= num_classes)]
            bad = bad[bad != ignore_index]
            raise ValueError(
                f'gt_sem_seg holds the label {int(bad[0])}: expected 0 to {num_classes - 1}, '
                f'or ignore_index {ignore_index}'
            )
        table = table[:, :num_classes]
        counts = tuple(table.sum(1).tolist())
        classes = torch.full((batch, max(*counts, 0)), -1, dtype=torch.int64)
        for image, count in enumerate(counts):
            classes[image, :count] = table[image].nonzero()[:, 0]
        return cls(labels, classes.to(labels.device), counts)

    def image_of_mask(self) -> Tensor:
        """``(N,)`` int64 image of every mask, images in order."""
        counts = torch.tensor(self.counts, device=self.classes.device)
        images = torch.arange(len(self.counts), device=self.classes.device)
        return images.repeat_interleave(counts, output_size=sum(self.counts))

    def class_of_mask(self) -> Tensor:
        """``(N,)`` int64 class of every mask, images in order."""
        keep = torch.tensor(
            [number < count for count in self.counts for number in range(self.classes.shape[1])],
            dtype=torch.bool,
        )
        rows = keep.nonzero()[:, 0].to(self.classes.device)
        return self.classes.flatten().index_select(0, rows)

    def pooled(self, size: tuple[int, int]) -> Tensor:
        """All masks at a lower resolution, a cell being set if any pixel in it is.

        Args:
            size: ``(rows, columns)``, divisors of the label maps' sides.

        Returns:
            ``(B, M, rows * columns)`` float32.
        """
        batch, height, width = self.labels.shape
        blocks = self.labels.view(batch, size[0], height // size[0], size[1], width // size[1])
        blocks = blocks.transpose(2, 3).reshape(batch, 1, size[0] * size[1], -1)
        return (blocks == self.classes[..., None, None]).any(-1).float()

    def sample(self, image: Tensor, classes: Tensor, points: Tensor) -> Tensor:
        """Bilinear samples of masks, 0 outside the image.

        Args:
            image: ``(N,)`` int64 images.
            classes: ``(N, M)`` int64 classes whose masks to sample.
            points: ``(N, P, 2)`` places ``(x, y)``, the image being the unit square.

        Returns:
            ``(N, M, P)`` float32.
        """
        _, height, width = self.labels.shape
        x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
        left, top = x.floor(), y.floor()
        out: Tensor | None = None
        for dx in (0, 1):
            for dy in (0, 1):
                share = (1 - (x - left - dx).abs()) * (1 - (y - top - dy).abs())
                col, row = (left + dx).long(), (top + dy).long()
                inside = (col >= 0) & (col < width) & (row >= 0) & (row < height)
                col, row = col.clamp(0, width - 1), row.clamp(0, height - 1)
                label = self.labels.flatten()[(image[:, None] * height + row) * width + col]
                term = (label[:, None] == classes[..., None]) * (share * inside)[:, None]
                out = term if out is None else out + term
        assert out is not None
        return out


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples of maps, 0 outside.

    Args:
        maps: ``(N, C, h, w)``.
        points: ``(N, P, 2)`` places ``(x, y)``, the map being the unit square.

    Returns:
        ``(N, C, P)``.
    """
    grid = points[:, :, None] * 2 - 1
    return F.grid_sample(maps, grid, align_corners=False)[..., 0]


@torch.no_grad()
def uncertain_points(
    maps: Tensor, num_points: int, oversample: float = 3.0, importance: float = 0.75
) -> Tensor:
    """Random places, most of them where a mask is undecided (PointRend's training sampling).

    ``oversample * num_points`` places are drawn; the share ``importance`` of ``num_points``
    with the smallest absolute logits is kept, the rest is drawn anew.

    Args:
        maps: ``(N, h, w)`` mask logits.
        num_points: places per mask.
        oversample: at least 1.
        importance: between 0 and 1.

    Returns:
        ``(N, num_points, 2)`` in the unit square.
    """
    masks = maps.shape[0]
    drawn = torch.rand((masks, int(num_points * oversample), 2), device=maps.device)
    logits = sample_maps(maps[:, None], drawn)[:, 0]
    kept = int(num_points * importance)
    index = logits.abs().topk(kept, dim=1, largest=False, sorted=False).indices
    chosen = drawn.gather(1, index[..., None].expand(-1, -1, 2))
    rest = torch.rand((masks, num_points - kept, 2), device=maps.device)
    return torch.cat((chosen, rest), 1)
