"""Preprocessing of batches for what the stock preprocessor cannot do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import broadcast, get_world_size
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS
from torch import Tensor

from ..option_checks import MOST_PIXELS, check_numbers, check_wholes, fail


@MODELS.register_module()
class MultiSizeCropPreProcessor(SegDataPreProcessor):
    """The stock preprocessor; training batches are cut to one of several sizes, drawn anew.

    For models that are tested on whole images of another size or shape than the training crops.
    All images of a batch are cut to the same size, and so are those of all processes; every batch
    at a place of its own, within what its largest image shows: where the stock preprocessor has
    padded, padding is cut off first. The data pipeline gives crops of the largest size.

    Args:
        crop_sizes: height and width of each size in pixels. Batches that are smaller keep their
            own height or width.
        weights: how often each is drawn, relative to the others; all alike by default.
        kwargs: of the stock preprocessor.

    Raises:
        ValueError: for a size or a weight that cannot be.
    """

    def __init__(
        self,
        *,
        crop_sizes: Sequence[Sequence[int]],
        weights: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(crop_sizes, (list, tuple)) or not crop_sizes:
            raise fail(self, 'crop_sizes', 'a list of heights and widths', crop_sizes)
        self.crop_sizes: list[tuple[int, ...]] = []
        for number, size in enumerate(crop_sizes):
            named: dict[str, Any] = {f'crop_sizes[{number}]': size}
            self.crop_sizes.append(check_wholes(self, most=MOST_PIXELS, counts=2, **named))
        count = len(self.crop_sizes)
        weights = [1.0] * count if weights is None else weights
        self.weights = check_numbers(self, above=0.0, count=count, weights=weights)
        super().__init__(**kwargs)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """As the stock one; in training ``inputs (B, C, H, W)`` and all labels are cut."""
        data = super().forward(data, training)
        if not training:
            return data
        inputs: Tensor = data['inputs']
        # The stock preprocessor keeps the sizes before padding, which is right and below.
        shown = [tuple(sample.img_shape[:2]) for sample in data['data_samples']]
        place = tuple(
            _part(max(extents), side, wanted)
            for extents, side, wanted in zip(
                zip(*shown, strict=True),
                inputs.shape[2:],
                self.crop_sizes[self._draw()],
                strict=True,
            )
        )
        inputs = inputs[(..., *place)].contiguous()
        for sample, extents in zip(data['data_samples'], shown, strict=True):
            for name, value in list(sample.items()):
                if isinstance(value, PixelData):
                    setattr(sample, name, value[place])
            size = tuple(inputs.shape[2:])
            below, right = (
                min(max(part.stop - extent, 0), part.stop - part.start)
                for part, extent in zip(place, extents, strict=True)
            )
            padding = (0, right, 0, below)
            sample.set_metainfo(dict(img_shape=size, pad_shape=size, padding_size=padding))
        return dict(data, inputs=inputs)

    def _draw(self) -> int:
        """Which size: the same in all processes."""
        number = torch.multinomial(torch.tensor(self.weights), 1)
        if get_world_size() > 1:
            broadcast(number)
        return int(number)


def _part(extent: int, side: int, wanted: int) -> slice:
    """So many pixels of a side, anywhere within ``extent``; all if there are no more."""
    first = int(torch.randint(max(min(extent, side) - wanted, 0) + 1, (1,)))
    return slice(first, min(first + wanted, side))
