"""Which module, and which of its methods, an operator was called from.

Read off the call stack rather than from hooks: heads of MMSegmentation are entered through
``predict`` and ``forward``, which run no hooks, and resize outside of any submodule.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import CodeType, FrameType
from typing import NamedTuple

from torch import nn

from ...models.decode_heads.mask2former.mask_features import MaskFeatures
from ...models.decode_heads.mask2former.transformer_decoder import attention_mask


class Caller(NamedTuple):
    """Where an operator was called from.

    Attributes:
        path: dotted name of the innermost module, '' for the model itself.
        method: the innermost of that module's methods.
        mask_step: whether it is part of the product of queries and mask features.
    """

    path: str
    method: str
    mask_step: bool


_MASK_STEP: tuple[CodeType, ...] = (MaskFeatures._logits.__code__, attention_mask.__code__)


def module_paths(model: nn.Module) -> dict[int, str]:
    """Dotted name of every module of a model, by the module's ``id``."""
    return {id(module): name for name, module in model.named_modules()}


def find_caller(paths: Mapping[int, str]) -> Caller:
    """The innermost call of a module named in ``paths`` on the present call stack."""
    mask_step = False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        mask_step = mask_step or code in _MASK_STEP
        if code.co_argcount and code.co_varnames[0] == 'self':
            path = paths.get(id(frame.f_locals.get('self')))
            if path is not None:
                return Caller(path, code.co_name, mask_step)
        frame = frame.f_back
    return Caller('', '', mask_step)
