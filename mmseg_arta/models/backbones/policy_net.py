"""Class-agnostic policy network that scores groups of patches (CTS 3.2, STEP 3.2.1).

Its features are those of EfficientNet-Lite0, with the parameter names of timm.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...option_checks import MOST_CHANNELS, check_config, check_init_cfg, check_whole
from ...structures import without_autocast
from ..layers import for_convolutions, freeze
from .arch import checked_images
from .pretrained import load_pretrained

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
_HEAD = (r'conv_head\.', r'bn2\.', r'classifier\.')
# What to do without weights of the features, and of a whole policy network.
_FEATURES_WAYS_ON = (
    "Either save timm's efficientnet_lite0 there as a state dict, or train from scratch on purpose "
    '(--cfg-options model.backbone.init_cfg=None).'
)
_POLICY_WAYS_ON = (
    'Either train the policy network first (configs/cts/*-policy_*.py) or convert a published one '
    '(tools/model_converters/convert_checkpoint.py), or leave its weights to a checkpoint of the '
    'whole model (--cfg-options model.backbone.policy_net.init_cfg=None).'
)


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
        in_channels: channels of the images, such as 1 for depth or grey; published weights fit 3.

    Raises:
        ValueError: for a bad ``in_channels``.
    """

    stride, out_channels = 32, 320

    def __init__(self, init_cfg: Mapping[str, Any] | None = None, in_channels: int = 3) -> None:
        check_init_cfg(self, init_cfg)
        check_whole(self, most=MOST_CHANNELS, in_channels=in_channels)
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.conv_stem, self.bn1 = _conv(in_channels, 32, 3, 2), nn.BatchNorm2d(32)
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
        load_pretrained(self, self.init_cfg, unused=_HEAD, ways_on=_FEATURES_WAYS_ON)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """``(B, in_channels, H, W)`` to one map ``(B, 320, H / 32, W / 32)``, rounded up."""
        image = checked_images('EfficientNetLite0', image, self.in_channels, self.conv_stem.weight)
        image = for_convolutions(image)
        return (self.blocks(_act(self.bn1(self.conv_stem(image)))),)


@MODELS.register_module()
class GroupPolicyNet(BaseModule):
    """Probability that a group of patches shows one class; a frozen part of a segmenter.

    It is trained by itself as a :class:`~mmseg_arta.models.segmentors.GroupPolicySegmentor` of
    the same backbone and head, whose checkpoints it takes. Once frozen it stays in eval mode
    whatever the model around it does, and its weights are buffers: no optimiser sees them, and no
    gradient is expected of them.

    Args:
        backbone: config of the feature extractor; its ``in_channels`` are those of the images.
        head: options of :class:`~mmseg_arta.models.decode_heads.GroupPolicyHead`, such as its
            ``group_sizes``.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` with a checkpoint of the trained
            policy network, which has to fit exactly. ``None`` leaves the weights to the
            checkpoint of the whole model.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any] | None = None,
        head: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        check_init_cfg(self, init_cfg)
        check_config(self, optional=True, backbone=backbone, head=head)
        if backbone:
            check_config(self, ('type',), backbone=backbone)
        super().__init__(init_cfg)
        # Its pre-training is part of the policy's own training.
        self.backbone = MODELS.build(dict(backbone or dict(type='EfficientNetLite0')))
        self.decode_head = MODELS.build({'type': 'GroupPolicyHead', **(head or {})})

    def check_sizes(self, group_sizes: Sequence[int], patch_size: int) -> None:
        """Raise ValueError unless the head scores groups of all these sizes."""
        sizes, patch = tuple(self.decode_head.group_sizes), self.decode_head.patch_size
        if not set(group_sizes) <= set(sizes) or patch != patch_size:
            raise ValueError(
                f'GroupPolicyNet: head.group_sizes are {sizes} patches of {patch} px, but '
                f'merging needs {tuple(group_sizes)} patches of {patch_size} px'
            )

    def check_channels(self, in_channels: int) -> None:
        """Raise ValueError unless the feature extractor takes images of so many channels."""
        # Stock backbones need not say how many they take.
        found = getattr(self.backbone, 'in_channels', in_channels)
        if found != in_channels:
            raise ValueError(
                f'in_channels is {in_channels}, but the policy network takes {found}: set '
                f'policy_net.backbone.in_channels to {in_channels}'
            )

    def freeze(self) -> None:
        """Turn all parameters into buffers of the same names, and stay in eval mode."""
        freeze(self)

    def train(self, mode: bool = True) -> GroupPolicyNet:
        """Stay in eval mode: batch statistics are frozen."""
        return super().train(False)

    def init_weights(self) -> None:
        """Load the checkpoint.

        Raises:
            ValueError: if it does not fit exactly.
        """
        self._is_init = True
        if not self.init_cfg:
            print_log(
                'GroupPolicyNet has no checkpoint (init_cfg): unless one of the whole model is '
                'loaded, groups are merged at random',
                logger='current',
                level=logging.WARNING,
            )
            return
        load_pretrained(self, self.init_cfg, ways_on=_POLICY_WAYS_ON)

    @torch.no_grad()
    def scores(self, image: Tensor, grid: tuple[int, int], patch_size: int) -> dict[int, Tensor]:
        """P(one class) of every whole group of a grid of patches, outside autocast.

        Policies compare it with thresholds and with itself: which groups merge shall not depend on
        the number type around the model.

        Args:
            image: ``(B, in_channels, H, W)``.
            grid: rows and columns of patches.
            patch_size: side of a patch in pixels.

        Returns:
            group size to ``(B, rows // size, columns // size)`` float32.
        """
        stride = self.backbone.stride
        image = F.pad(image, (0, -image.shape[3] % stride, 0, -image.shape[2] % stride))
        kind = next(iter(self.decode_head.convs.values())).weight.dtype
        with without_autocast(image):
            logits = self.decode_head(self.backbone(image.to(kind)), grid)
        return {size: maps.float().softmax(1)[:, 1] for size, maps in logits.items()}
