"""EfficientNet-Lite0 features, with the parameter names of timm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..layers import for_convolutions

# repeats, kernel, stride, expansion, channels
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# timm's layers behind the features; a classification checkpoint has them.
_HEAD = ('conv_head.', 'bn2.', 'classifier.')


def _conv(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def _act(x: Tensor) -> Tensor:
    return F.relu6(x, inplace=True)


class _SeparableConv(nn.Module):
    """Depth-wise and point-wise convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = _conv(inputs, inputs, kernel, 1, inputs), nn.BatchNorm2d(inputs)
        self.conv_pw, self.bn2 = _conv(inputs, outputs), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv_pw(_act(self.bn1(self.conv_dw(x)))))


class _InvertedResidual(nn.Module):
    """Expansion, depth-wise convolution, linear projection."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = inputs * expand
        self.residual = stride == 1 and inputs == outputs
        self.conv_pw, self.bn1 = _conv(inputs, inner), nn.BatchNorm2d(inner)
        self.conv_dw = _conv(inner, inner, kernel, stride, inner)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv_pwl, self.bn3 = _conv(inner, outputs), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out = _act(self.bn1(self.conv_pw(x)))
        out = _act(self.bn2(self.conv_dw(out)))
        out = self.bn3(self.conv_pwl(out))
        return x + out if self.residual else out


@MODELS.register_module()
class EfficientNetLite0(BaseModule):
    """EfficientNet-Lite0 without its classifier: ReLU6, no squeeze-and-excitation.

    Args:
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` for weights of timm's
            ``efficientnet_lite0``; a missing key is an error.
    """

    stride, out_channels = 32, 320

    def __init__(self, init_cfg: Mapping[str, Any] | None = None) -> None:
        super().__init__(init_cfg)
        self.conv_stem, self.bn1 = _conv(3, 32, 3, 2), nn.BatchNorm2d(32)
        channels, stages = 32, []
        for repeats, kernel, stride, expand, outputs in _STAGES:
            blocks: list[nn.Module] = []
            for number in range(repeats):
                if expand == 1:
                    blocks.append(_SeparableConv(channels, outputs, kernel))
                else:
                    step = stride if number == 0 else 1
                    blocks.append(_InvertedResidual(channels, outputs, kernel, step, expand))
                channels = outputs
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)

    def init_weights(self) -> None:
        """Kaiming normal, or the checkpoint; weights that are missing there are an error."""
        if not self.init_cfg:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode='fan_out')
            return
        source = self.init_cfg['checkpoint']
        loaded = CheckpointLoader.load_checkpoint(source, map_location='cpu')
        weights = {
            key: value
            for key, value in loaded.get('state_dict', loaded).items()
            if not key.startswith(_HEAD)
        }
        load_exactly(self, weights, source)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """``(B, 3, H, W)`` to a single map ``(B, 320, H / 32, W / 32)``, sides rounded up."""
        image = for_convolutions(image)
        return (self.blocks(_act(self.bn1(self.conv_stem(image)))),)


def load_exactly(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights that must fit in every name and shape.

    Args:
        module: to be filled.
        weights: its state dict.
        source: the checkpoint's name, for the message.

    Raises:
        ValueError: naming what does not fit.
    """
    own = module.state_dict()
    # Counters that no computation in eval mode reads; older files lack them.
    counters = {key for key in own if key.endswith('num_batches_tracked')}
    missing = sorted(own.keys() - weights.keys() - counters)
    unknown = sorted(weights.keys() - own.keys())
    other = [
        f'{key} is {tuple(weights[key].shape)}, expected {tuple(own[key].shape)}'
        for key in sorted(own.keys() & weights.keys())
        if own[key].shape != weights[key].shape
    ]
    if missing or unknown or other:
        raise ValueError(
            f'{source} does not fit {type(module).__name__}: '
            f'missing {missing[:10]} ({len(missing)}), not expected {unknown[:10]} '
            f'({len(unknown)}), other shapes {other[:10]} ({len(other)})'
        )
    module.load_state_dict(dict(weights), strict=False)
