"""Class scores of pixels as a PyTorch op; for inference, without gradients."""

from __future__ import annotations

from torch import Tensor

from ..cpu import class_scores as cpu
from .define import define


def _result(class_probs: Tensor, mask_logits: Tensor, cell: int, height, width) -> Tensor:
    return class_probs.new_empty((class_probs.shape[0], class_probs.shape[2], height, width))


def _flops(class_probs, mask_logits, cell, height, width) -> int:
    batch, queries, classes = class_probs
    # As PyTorch counts the reference: the product alone.
    return 2 * batch * queries * classes * height * width


forward = define(
    'class_scores',
    'Tensor class_probs, Tensor mask_logits, int cell, int height, int width',
    'Tensor',
    _result,
    {'cpu': cpu.forward},
    _flops,
)
