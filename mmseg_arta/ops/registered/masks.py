"""Mask probabilities of pixels as a PyTorch op; for inference, without gradients."""

from __future__ import annotations

from torch import Tensor

from ..cpu import masks as cpu
from .define import define


def _probabilities(
    mask_logits: Tensor, cell: int, first: int, rows: int, width: int, strips: int
) -> Tensor:
    return mask_logits.new_empty((rows * strips, mask_logits.shape[0], width // strips))


#: From logits ``(Q, h, w)`` of an image, the side of their cells in pixels, and the first one,
#: number and width of rows of pixels, each cut into equal strips, to probabilities
#: ``(rows * strips, Q, width / strips)``.
forward = define(
    'mask_probabilities',
    'Tensor mask_logits, int cell, int first, int rows, int width, int strips',
    'Tensor',
    _probabilities,
    {'cpu': cpu.forward},
)

#: An empty tensor like another one, of a shape with four dimensions, whose memory is there before
#: it is written: that is faster for all of it at once than page by page.
room = define(
    'room_for_scores',
    'Tensor like, int images, int classes, int height, int width',
    'Tensor',
    lambda like, *shape: like.new_empty(shape),
    {'cpu': cpu.make_room},
)
