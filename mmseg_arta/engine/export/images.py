"""A segmentor as a function of tensors alone: pixels in, scores out."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.segmentors import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor, nn


class ExportError(ValueError):
    """A model that cannot be exported, with a message for the person who asked."""


class ImageToScores(nn.Module):
    """Preprocessing and prediction of a segmentor, for images of one size.

    What ``test_step`` does with images of this size, at the image as a whole whatever the mode in
    ``test_cfg``, but for the samples: channels are put in order, normalised and padded as the
    segmentor's data preprocessor does it, and padding is cut off the scores. Scores of one channel
    go through a sigmoid, as in stock post-processing.

    Args:
        segmentor: one of MMSegmentation's ``EncoderDecoder`` or of its kind.
        shape: ``(height, width)`` of the images in pixels.
        loads_bgr: whether images of three channels are BGR where the data preprocessor gets them,
            as MMSegmentation loads them; False with ``rgb_to_bgr``.

    Raises:
        ExportError: for a model of another kind, or padding that does not fit the images.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, segmentor: BaseSegmentor, shape: tuple[int, int], loads_bgr: bool = True
    ) -> None:
        super().__init__()
        if not hasattr(segmentor, 'whole_inference'):
            raise ExportError(
                f'{type(segmentor).__name__} does not predict class scores of pixels; export a '
                'segmentor such as EncoderDecoder'
            )
        if len(shape) != 2 or min(shape) < 1:
            raise ExportError(f'shape must be two positive numbers (height, width), found {shape}')
        self.segmentor: Any = segmentor
        self.shape = (int(shape[0]), int(shape[1]))
        self.loads_bgr = loads_bgr
        preprocessor: Any = segmentor.data_preprocessor
        flips = bool(getattr(preprocessor, '_channel_conversion', False))
        # Once from RGB to what is loaded, once by the preprocessor.
        self.reverses = loads_bgr != flips
        self.normalizes = bool(getattr(preprocessor, '_enable_normalize', False))
        if self.normalizes:
            self.register_buffer('mean', preprocessor.mean.clone(), persistent=False)
            self.register_buffer('std', preprocessor.std.clone(), persistent=False)
        self.padding = self._padding(getattr(preprocessor, 'test_cfg', None) or {})
        self.pad_value = float(getattr(preprocessor, 'pad_val', 0))
        self.channels = int(getattr(segmentor.backbone, 'in_channels', 3) or 3)

    def _padding(self, test_cfg: Any) -> tuple[int, int]:
        """Rows and columns that the data preprocessor adds below and to the right."""
        height, width = self.shape
        if test_cfg.get('size') is not None:
            padded = tuple(test_cfg['size'])[-2:]
        else:
            divisor = test_cfg.get('size_divisor') or 1
            padded = (-(-height // divisor) * divisor, -(-width // divisor) * divisor)
        return max(padded[0] - height, 0), max(padded[1] - width, 0)

    def forward(self, image: Tensor) -> Tensor:
        """Predict.

        Args:
            image: ``(B, C, H, W)`` float32 pixels from 0 to 255; RGB if there are three channels.

        Returns:
            ``(B, classes, H, W)`` float32 scores, of which the largest is the label; or
            ``(B, 1, H, W)`` from 0 to 1, which ``decode_head.threshold`` divides into two labels.
        """
        height, width = self.shape
        if self.reverses and self.channels == 3:
            image = image.flip(1)
        if self.normalizes:
            image = (image - self.mean) / self.std
        below, right = self.padding
        padded = F.pad(image, (0, right, 0, below), value=self.pad_value)
        meta = dict(
            ori_shape=self.shape,
            img_shape=self.shape,
            pad_shape=(height + below, width + right),
            padding_size=[0, right, 0, below],
        )
        scores = self.segmentor.whole_inference(padded, [meta] * image.shape[0])
        if not isinstance(scores, Tensor) or scores.ndim != 4:
            raise ExportError(
                f'{type(self.segmentor).__name__} does not predict class scores of pixels but '
                f'{type(scores).__name__}; export a segmentor such as EncoderDecoder'
            )
        scores = scores[:, :, :height, :width].float()
        return scores.sigmoid() if scores.shape[1] == 1 else scores

    @torch.no_grad()
    def as_tested(self, image: Tensor) -> Tensor:
        """The same by the segmentor's own ``test_step``, in eager mode.

        Args:
            image: as in :meth:`forward`, of whole numbers.
        """
        loaded = image.flip(1) if self.loads_bgr and self.channels == 3 else image
        meta = dict(ori_shape=self.shape, img_shape=self.shape, pad_shape=self.shape)
        results = self.segmentor.test_step(
            dict(
                inputs=list(loaded.to(torch.uint8)),
                data_samples=[SegDataSample(metainfo=dict(meta)) for _ in loaded],
            )
        )
        return torch.stack([sample.seg_logits.data for sample in results]).float()
