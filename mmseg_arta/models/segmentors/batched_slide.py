"""Slide inference with several windows per forward pass, and no copies of what it predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from ...option_checks import check_whole
from .windows import check_window_options, slide_corners


@MODELS.register_module()
class BatchedSlideEncoderDecoder(EncoderDecoder):
    """The stock ``EncoderDecoder`` whose slide mode decodes several windows at once.

    The result is that of the stock mode, for models that treat the images of a batch each by
    itself (``BatchRatioAllocation`` with ``inference='batch'`` does not). More options in
    ``test_cfg``:

    - ``windows_per_forward``, 1 by default;
    - ``accumulate_on``: device where the windows' predictions are added up, that of the images by
      default. With 'cpu' the memory taken on an accelerator is that of the image and of
      ``windows_per_forward`` windows, however many there are; the prediction is returned on
      that device, too. ``TokenStatisticsHook`` and ``TokenPictureHook`` keep the places and
      scores of all windows besides, about 10 bytes a token.

    Besides its windows slide mode holds the image, the sums of scores and the windows per pixel:
    4 (in_channels + classes + 1) bytes a pixel. An image of 8000x8000 and 5 classes took 2331 MB,
    of which 27 MB were the windows of 512 px of a small ARTA (resident memory, on a CPU). The
    stock mode holds the scores of a window once more at the size of the image.

    In all modes, predictions that have the size of their image are not resized, which changes
    nothing and copies them (1.2 GiB for 150 classes at 1024x2048): their ``seg_logits`` are a
    part of those of the batch, as a view.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.test_cfg is not None:
            self._windows_per_forward()
            self._accumulate_on(torch.device('cpu'))
            if self.test_cfg.get('mode') == 'slide':
                check_window_options(self.test_cfg)

    def slide_inference(
        self, inputs: Tensor, batch_img_metas: Sequence[Mapping[str, Any]]
    ) -> Tensor:
        """Mean over windows of their predictions, ``(B, out_channels, H, W)``.

        Args:
            inputs: ``(B, 3, H, W)`` images.
            batch_img_metas: of every image; those of a window get its size as ``img_shape``.

        Raises:
            ValueError: if ``windows_per_forward`` is not positive, or ``accumulate_on`` is no
                device.
        """
        device, at_once = self._accumulate_on(inputs.device), self._windows_per_forward()
        batch, _, height, width = inputs.shape
        crop = tuple(self.test_cfg.crop_size)
        size = tuple(min(*sides) for sides in zip((height, width), crop, strict=True))
        windows = [
            (slice(y, y + size[0]), slice(x, x + size[1]))
            for y, x in slide_corners((height, width), crop, tuple(self.test_cfg.stride))
        ]
        # By this type heads know the size of a window from that of a padded image.
        metas = [dict(meta, img_shape=torch.Size(size)) for meta in batch_img_metas]
        # Sums over windows need more digits than half precision has.
        kind = torch.promote_types(inputs.dtype, torch.float32)
        total = inputs.new_zeros(
            (batch, self.out_channels, height, width), dtype=kind, device=device
        )
        count = total.new_zeros((1, 1, height, width))
        for first in range(0, len(windows), at_once):
            group = windows[first : first + at_once]
            crops = torch.cat([inputs[:, :, y, x] for y, x in group])
            predictions = self.encode_decode(crops, metas * len(group)).to(device)
            for (y, x), scores in zip(group, predictions.split(batch), strict=True):
                total[:, :, y, x] += scores
                count[:, :, y, x] += 1
        return total.div_(count)

    def postprocess_result(
        self, seg_logits: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Samples with ``pred_sem_seg`` and ``seg_logits`` of the size of their images.

        Args:
            seg_logits: ``(B, out_channels, H, W)`` scores of the padded images.
            data_samples: what the images were loaded with; without, scores stay as they are.
        """
        if data_samples is None:
            return super().postprocess_result(seg_logits)
        for scores, sample in zip(seg_logits.split(1), data_samples, strict=True):
            meta = sample.metainfo
            padding = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
            left, right, top, bottom = padding
            height, width = scores.shape[2:]
            inner = scores[:, :, top : height - bottom, left : width - right]
            if meta.get('flip') or inner.shape[2:] != tuple(meta['ori_shape']):
                super().postprocess_result(scores, [sample])
            else:
                (found,) = super().postprocess_result(inner)
                sample.set_data(dict(found.items()))
        return data_samples

    def _windows_per_forward(self) -> int:
        at_once = self.test_cfg.get('windows_per_forward', 1)
        check_whole('test_cfg', windows_per_forward=at_once)
        return at_once

    def _accumulate_on(self, default: torch.device) -> torch.device:
        name = self.test_cfg.get('accumulate_on')
        try:
            return default if name is None else torch.device(name)
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"test_cfg.accumulate_on must name a device such as 'cpu', found {name!r}"
            ) from error
