"""Class scores of pixels in C++, as a PyTorch op; for inference, without gradients."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import interface, library


@torch.library.custom_op(
    'mmseg_arta::class_scores_cpu',
    mutates_args=(),
    device_types='cpu',
    schema='(Tensor class_probs, Tensor mask_logits, int cell, int height, int width) -> Tensor',
)
def _forward(class_probs, mask_logits, cell, height, width):
    class_probs, mask_logits = class_probs.contiguous(), mask_logits.contiguous()
    batch, queries, classes = class_probs.shape
    rows, columns = mask_logits.shape[2:]
    dtype = library.real_type(class_probs, 'class_probs')
    out = _output(class_probs, height, width)
    problem = interface.Scores(
        library.address(class_probs, dtype, (batch, queries, classes), 'class_probs'),
        library.address(mask_logits, dtype, (batch, queries, rows, columns), 'mask_logits'),
        *(batch, queries, classes, rows, columns, height, width),
        *(1 / cell, 1 / cell),
        dtype == torch.float64,
        library.threads(),
    )
    library.call('arta_class_scores', ctypes.byref(problem), out.data_ptr())
    return out


def _output(class_probs: Tensor, height: int, width: int) -> Tensor:
    return class_probs.new_empty((class_probs.shape[0], class_probs.shape[2], height, width))


@_forward.register_fake
def _(class_probs, mask_logits, cell, height, width):
    return _output(class_probs, height, width)


@register_flop_formula(torch.ops.mmseg_arta.class_scores_cpu)
def _forward_flops(class_probs, mask_logits, cell, height, width, *args, out_shape=None, **kwargs):
    batch, queries, classes = class_probs
    # As PyTorch counts the reference: the product alone.
    return 2 * batch * queries * classes * height * width


def class_scores(
    class_probs: Tensor, mask_logits: Tensor, cell: int, size: tuple[int, int]
) -> Tensor:
    """See :func:`mmseg_arta.ops.class_scores`; all numbers in float32 or float64."""
    return _forward(class_probs, mask_logits, cell, size[0], size[1])
