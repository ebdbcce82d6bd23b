"""Training and evaluation of a policy network as a model of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from ...structures import host_sizes


@MODELS.register_module()
class GroupPolicySegmentor(EncoderDecoder):
    """A :class:`~mmseg_arta.models.decode_heads.GroupPolicyHead` on a backbone (CTS 3.2).

    It trains as every stock segmentor; it predicts no classes, but ``group_scores`` of every
    sample: group side in patches to ``(rows, columns)`` P(one class) on the grid of the test
    image, which :class:`~mmseg_arta.engine.GroupPolicyMetric` judges. ``pred_sem_seg`` is 1
    where the smallest groups are held to show one class.
    """

    def extract_feat(self, inputs: Tensor) -> Any:
        """Features of images padded with zeros to whole cells of the backbone."""
        stride = self.backbone.stride
        height, width = host_sizes(inputs)[2:]
        padding = (0, -width % stride, 0, -height % stride)
        return super().extract_feat(F.pad(inputs, padding))

    def _forward(
        self, inputs: Tensor, data_samples: Sequence[SegDataSample] | None = None
    ) -> tuple[Tensor, ...]:
        """Logits ``(B, 2, rows // size, columns // size)`` of groups, sizes ascending."""
        patch = self.decode_head.patch_size
        rows, columns = (-(-side // patch) for side in host_sizes(inputs)[2:])
        logits = self.decode_head(self.extract_feat(inputs), (rows, columns))
        return tuple(logits[size] for size in sorted(logits))

    def predict(
        self, inputs: Tensor, data_samples: Sequence[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Samples with ``group_scores``, on the device, and ``pred_sem_seg``."""
        if data_samples is None:
            shape = tuple(inputs.shape[2:])
            data_samples = [
                SegDataSample(metainfo=dict(img_shape=shape)) for _ in range(len(inputs))
            ]
        metas = [dict(sample.metainfo, img_shape=inputs.shape[2:]) for sample in data_samples]
        scores = self.decode_head.predict(self.extract_feat(inputs), metas, self.test_cfg)
        smallest = scores[min(scores)]
        for number, sample in enumerate(data_samples):
            of_image = {size: maps[number] for size, maps in scores.items()}
            sample.set_field(of_image, 'group_scores', dtype=dict)
            shape = sample.metainfo.get('ori_shape', inputs.shape[2:])[:2]
            sure = (smallest[number] > 0.5).float()[None, None]
            whole = F.interpolate(sure, shape) if sure.numel() else sure.new_zeros((1, 1, *shape))
            sample.pred_sem_seg = PixelData(data=whole[0].to(torch.uint8))
        return list(data_samples)
