"""Linear layers together with the step that follows them."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry, register_flop_formula

from .eager import eager_on_cpu

#: Of a multiple of so many rows, oneDNN computes a linear layer and the step after it at once. It
#: prepares code for every number of rows that it meets, which takes longer than that step alone:
#: numbers of tokens, which differ from image to image, must not reach it.
ROWS = 256

_ACTIVATIONS = {'gelu': F.gelu, 'relu': lambda x: F.relu(x, inplace=True)}
# Their names in oneDNN, and the variant.
_ONEDNN = {'gelu': ('gelu', [], 'none'), 'relu': ('relu', [], '')}


def linear_act(x: Tensor, layer: nn.Linear, activation: str) -> Tensor:
    """A linear layer and an activation.

    Args:
        x: ``(..., C)``.
        layer: from ``C`` to ``D`` channels.
        activation: ``'gelu'`` (exact) or ``'relu'``.

    Returns:
        ``(..., D)``.
    """
    if not _fused(x, layer):
        return _ACTIVATIONS[activation](layer(x))
    name, scalars, variant = _ONEDNN[activation]
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, name, scalars, variant)


def in_sequence(x: Tensor, layers: nn.Sequential) -> Tensor:
    """``layers(x)``, where a linear layer and an activation after it are :func:`linear_act`."""
    if not _unwatched(layers):
        return layers(x)
    steps = list(layers)
    while steps:
        step, *steps = steps
        activation = _name(steps[0]) if steps and isinstance(step, nn.Linear) else None
        if type(step) is nn.Sequential:
            x = in_sequence(x, step)
        elif activation is None:
            x = step(x)
        else:
            x = linear_act(x, step, activation)
            del steps[0]
    return x


def _name(layer: nn.Module) -> str | None:
    """That of an activation if :func:`linear_act` may take its place."""
    if not _unwatched(layer):
        return None
    if type(layer) is nn.GELU and layer.approximate == 'none':
        return 'gelu'
    return 'relu' if type(layer) is nn.ReLU else None


def _unwatched(layer: nn.Module) -> bool:
    """Whether no hook waits for a layer to be called."""
    return not (layer._forward_hooks or layer._forward_pre_hooks)


def linear_add(x: Tensor, layer: nn.Linear, other: Tensor) -> Tensor:
    """``other`` plus a linear layer, as at the end of a short connection.

    Args:
        x: ``(..., C)``.
        layer: from ``C`` to ``D`` channels.
        other: ``(..., D)``.
    """
    fits = _fused(x, layer) and other.shape == (*x.shape[:-1], layer.out_features)
    if not (fits and other.dtype == x.dtype and other.is_contiguous()):
        return other + layer(x)
    return torch.ops.mkldnn._linear_pointwise.binary(x, other, layer.weight, layer.bias, 'add')


def _fused(x: Tensor, layer: nn.Linear) -> bool:
    """Whether oneDNN can take the step after a layer along, and should."""
    if not (_AVAILABLE and eager_on_cpu(x) and x.dtype == torch.float32 and x.numel()):
        return False
    enabled = torch.backends.mkldnn.enabled and not torch.is_autocast_enabled('cpu')
    return enabled and math.prod(x.shape[:-1]) % ROWS == 0 and _plain(layer)


def _plain(layer: nn.Linear) -> bool:
    """Whether a layer is nothing but its weights: not replaced, wrapped or watched."""
    return (
        type(layer) is nn.Linear
        and type(layer.weight) is nn.Parameter
        and layer.weight.dtype == torch.float32
        and layer.weight.is_contiguous()
        and _unwatched(layer)
    )


# PyTorch's own op for its compiler, on processors that oneDNN is made for.
_AVAILABLE = (
    platform.machine().lower() in ('x86_64', 'amd64')
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, '_linear_pointwise')
)


def _flops(x: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
    return 2 * math.prod(out_shape) * x[-1]


# PyTorch's counter does not know it.
if _AVAILABLE and torch.ops.mkldnn._linear_pointwise not in flop_registry:
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_flops)
