"""Class scores of pixels from queries' classes and masks (Mask2Former's semantic inference)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...structures import without_autocast
from .. import checks
from ..backend import chosen_backend, number_types, register_op
from . import kernels, reference

register_op('class_scores', kernels.FORWARD)

#: Pixels whose mask probabilities are kept at a time: those of 100 queries fit in a cache.
PIXELS_PER_THREAD = 4096
#: Pixels of a row that are multiplied with the classes at a time, at least.
STRIP = 512


def class_scores(
    class_probs: Tensor, mask_logits: Tensor, cell: int, size: tuple[int, int]
) -> Tensor:
    """Sum over queries of class probability x mask probability, for every pixel.

    Mask logits are bilinear between the middles of cells, as by
    ``F.interpolate(mode='bilinear')`` without ``align_corners``. With the C++ back end neither
    they nor the masks' probabilities exist at the size of the image, only a few rows at a time.

    Args:
        class_probs: ``(B, Q, K)`` probabilities of the queries' classes.
        mask_logits: ``(B, Q, h, w)`` logits of the queries' masks.
        cell: side of a cell of the masks in pixels.
        size: ``(height, width)`` of the images in pixels, at most ``(h, w)`` cells.

    Returns:
        ``(B, K, height, width)`` in the number type of ``class_probs``; computed in float32 or
        better.

    Raises:
        ValueError: if shapes, number types or devices do not fit together.
    """
    checks.floating(class_probs=class_probs, mask_logits=mask_logits)
    checks.same_device(class_probs=class_probs, mask_logits=mask_logits)
    if class_probs.ndim != 3:
        raise ValueError(f'class_probs must be (B, Q, K), found {tuple(class_probs.shape)}')
    if mask_logits.ndim != 4 or mask_logits.shape[:2] != class_probs.shape[:2]:
        batch, queries = class_probs.shape[:2]
        raise ValueError(
            f'mask_logits must be ({batch}, {queries}, h, w), found {tuple(mask_logits.shape)}'
        )
    checks.size(1, checks.MOST, cell=cell)
    checks.wholes(2, size=size)
    covered = (mask_logits.shape[2] * cell, mask_logits.shape[3] * cell)
    if not (1 <= size[0] <= covered[0] and 1 <= size[1] <= covered[1]):
        raise ValueError(
            f'size must be from 1 to {covered} (height, width), what the masks cover; '
            f'found {tuple(size)}'
        )
    chosen = chosen_backend('class_scores', class_probs)
    wants_grad = class_probs.requires_grad or mask_logits.requires_grad
    if torch.compiler.is_compiling() or (torch.is_grad_enabled() and wants_grad):
        # Predictions are not trained on; whoever asks for gradients gets them from PyTorch.
        # Compilers see the definition, not a loop over blocks.
        chosen = 'reference'
    kind, _ = number_types(chosen, class_probs.dtype)
    probs, logits = class_probs.to(kind), mask_logits.to(kind)
    with without_autocast(class_probs):
        if chosen == 'reference':
            out = reference.class_scores(probs, logits, cell, size)
        else:
            out = _by_blocks(probs, logits.contiguous(), cell, size, chosen)
    return out.to(class_probs.dtype)


def _by_blocks(
    class_probs: Tensor, mask_logits: Tensor, cell: int, size: tuple[int, int], backend: str
) -> Tensor:
    """The masks' probabilities of some rows of pixels at a time, and products with them."""
    (batch, _, classes), (height, width) = class_probs.shape, size
    out = class_probs.new_empty((batch, classes, height, width))
    # Products with few pixels at a time are faster; all of them must have equally many.
    strips = next(n for n in range(max(1, width // STRIP), 0, -1) if width % n == 0)
    rows = max(1, PIXELS_PER_THREAD * torch.get_num_threads() // width)
    for image in range(batch):
        weights, logits = class_probs[image].t(), mask_logits[image]
        scores = out[image].view(classes, height * strips, width // strips).transpose(0, 1)
        for first in range(0, height, rows):
            masks = kernels.forward(
                logits, cell, first, min(rows, height - first), width, strips, backend
            )
            products = scores.narrow(0, first * strips, len(masks))
            torch.bmm(weights.expand(len(masks), -1, -1), masks, out=products)
    return out
