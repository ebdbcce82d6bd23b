"""Class scores of pixels in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def class_scores(
    class_probs: Tensor, mask_logits: Tensor, cell: int, size: tuple[int, int]
) -> Tensor:
    """See :func:`mmseg_arta.ops.class_scores`."""
    if mask_logits.shape[1] == 0:
        # Nothing to interpolate is an error to PyTorch.
        batch, _, classes = class_probs.shape
        return class_probs.new_zeros((batch, classes, *size))
    full = (mask_logits.shape[2] * cell, mask_logits.shape[3] * cell)
    masks = F.interpolate(mask_logits, full, mode='bilinear', align_corners=False)
    masks = masks[:, :, : size[0], : size[1]].sigmoid()
    return torch.einsum('bqc,bqhw->bchw', class_probs, masks)
