"""Models without memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import nn
from torch.overrides import TorchFunctionMode


class _RatesOnHost(TorchFunctionMode):
    """Stock backbones read the drop rates that they make by ``linspace`` while being built."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs['device'] = 'cpu'
        return func(*args, **kwargs)


def build_on_meta(model_cfg: Mapping[str, Any]) -> nn.Module:
    """The model, built on the meta device: parameters have shapes, but take no memory.

    Args:
        model_cfg: config of a model; not changed.
    """
    with torch.device('meta'), _RatesOnHost():
        return MODELS.build(dict(model_cfg))
