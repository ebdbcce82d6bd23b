"""Test-time augmentation for heads that predict class scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample


@MODELS.register_module()
class ScoreTTAModel(BaseTTAModel):
    """Averages the class scores of all augmented views of an image.

    Query-based heads predict scores (sums of class probability x mask probability), as slide
    inference averages them too. The stock ``SegTTAModel`` would apply softmax to them, which
    is right for logits only.
    """

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[SegDataSample]]
    ) -> list[SegDataSample]:
        """One sample per image, with ``pred_sem_seg`` of the mean of its views' ``seg_logits``.

        Args:
            data_samples_list: for every image the samples of its views, flipped and resized
                back to the image already.
        """
        merged = []
        for views in data_samples_list:
            scores = torch.stack([view.seg_logits.data for view in views]).mean(0)
            sample = SegDataSample(metainfo=views[0].metainfo)
            if 'gt_sem_seg' in views[0]:
                sample.gt_sem_seg = views[0].gt_sem_seg
            sample.seg_logits = PixelData(data=scores)
            if scores.shape[0] > 1:
                label = scores.argmax(0, keepdim=True)
            else:
                label = (scores > self.module.decode_head.threshold).to(scores)
            sample.pred_sem_seg = PixelData(data=label)
            merged.append(sample)
        return merged
