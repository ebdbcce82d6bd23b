"""Class-agnostic policy network that scores groups of patches (CTS 3.2, STEP 3.2.1)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader
from mmseg.registry import MODELS
from torch import Tensor

from .efficientnet_lite import load_exactly


@MODELS.register_module()
class GroupPolicyNet(BaseModule):
    """Probability that a group of patches shows one class; a frozen part of a segmenter.

    It is trained by itself as a :class:`~mmseg_arta.models.segmentors.GroupPolicySegmentor` of
    the same backbone and head, whose checkpoints it takes. Once frozen it stays in eval mode
    whatever the model around it does, and its weights are buffers: no optimiser sees them, and no
    gradient is expected of them.

    Args:
        backbone: config of the feature extractor.
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
        super().__init__(init_cfg)
        # Its pre-training is part of the policy's own training.
        self.backbone = MODELS.build(dict(backbone or dict(type='EfficientNetLite0')))
        self.decode_head = MODELS.build({'type': 'GroupPolicyHead', **(head or {})})

    def check_sizes(self, group_sizes: Sequence[int], patch_size: int) -> None:
        """Raise ValueError unless the head scores groups of all these sizes."""
        found = (tuple(self.decode_head.group_sizes), self.decode_head.patch_size)
        if not set(group_sizes) <= set(found[0]) or found[1] != patch_size:
            raise ValueError(
                f'GroupPolicyNet: head.group_sizes are {found[0]} patches of {found[1]} px, but '
                f'merging needs {tuple(group_sizes)} patches of {patch_size} px'
            )

    def freeze(self) -> None:
        """Turn all parameters into buffers of the same names, and stay in eval mode."""
        for module in self.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach())
        self.eval()

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
        source = self.init_cfg['checkpoint']
        loaded = CheckpointLoader.load_checkpoint(source, map_location='cpu')
        load_exactly(self, loaded.get('state_dict', loaded), source)

    @torch.no_grad()
    def scores(self, image: Tensor, grid: tuple[int, int], patch_size: int) -> dict[int, Tensor]:
        """P(one class) of every whole group of a grid of patches.

        Args:
            image: ``(B, 3, H, W)``.
            grid: rows and columns of patches.
            patch_size: side of a patch in pixels.

        Returns:
            group size to ``(B, rows // size, columns // size)`` float32.
        """
        stride = self.backbone.stride
        image = F.pad(image, (0, -image.shape[3] % stride, 0, -image.shape[2] % stride))
        logits = self.decode_head(self.backbone(image), grid)
        return {size: maps.float().softmax(1)[:, 1] for size, maps in logits.items()}
