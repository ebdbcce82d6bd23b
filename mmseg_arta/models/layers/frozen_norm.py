"""Batch normalisation by statistics and weights that are fixed for good."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

# Of stock layers and of what only checks other shapes; others may compute something else.
_STOCK = (_BatchNorm.forward, nn.SyncBatchNorm.forward)


class FrozenBatchNorm(_NormBase):
    """A batch normalisation in eval mode, whatever its mode; keys of its state are the same.

    Not a ``_BatchNorm``, which what replaces batch norms by synchronised ones (``sync_bn`` of
    MMEngine's runner) takes for layers to be trained, with parameters.

    Args:
        norm: whose weights and statistics become this module's buffers.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(
            norm.num_features,
            norm.eps,
            norm.momentum,
            affine=False,
            track_running_stats=norm.track_running_stats,
            device='meta',
        )
        self.affine = norm.affine
        for name in ('weight', 'bias'):
            # An entry of None in the parameters would hide the buffer.
            delattr(self, name)
            parameter = getattr(norm, name)
            self.register_buffer(name, None if parameter is None else parameter.detach())
        for name in ('running_mean', 'running_var', 'num_batches_tracked'):
            setattr(self, name, getattr(norm, name))
        self.training = norm.training

    def forward(self, x: Tensor) -> Tensor:
        """``(B, num_features, ...)`` to the same shape."""
        # Without statistics of training, layers in eval mode take those of the batch, too.
        of_batch = self.running_mean is None
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, of_batch, 0.0, self.eps
        )


def freeze(module: nn.Module) -> None:
    """Turn all parameters within a module into buffers of the same names, in eval mode.

    Args:
        module: is changed in place; batch norms within it become :class:`FrozenBatchNorm`.
    """
    frozen: dict[nn.Module, nn.Module] = {}
    for parent in list(module.modules()):
        children: dict[str, Any] = parent._modules
        for name, child in children.items():
            if isinstance(child, _BatchNorm) and type(child).forward in _STOCK:
                # A layer in several places stays one.
                children[name] = frozen.setdefault(child, FrozenBatchNorm(child))
    for child in module.modules():
        for name, parameter in list(child.named_parameters(recurse=False)):
            delattr(child, name)
            child.register_buffer(name, parameter.detach())
    module.eval()
