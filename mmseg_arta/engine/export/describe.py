"""What a file tells of itself: how images go in, and what the scores are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ...version import __version__
from .images import ImageToScores

#: Key of the description in a file, and its version.
KEY, VERSION = 'mmseg_arta_export', 1


def describe(
    module: ImageToScores,
    batch_size: int,
    name: str,
    classes: Sequence[str] | None = None,
    palette: Sequence[Sequence[int]] | None = None,
) -> dict[str, Any]:
    """The description, of plain values that JSON holds.

    Args:
        module: what is exported.
        batch_size: images that go in at a time.
        name: of the config.
        classes, palette: names and RGB colours, where they are known.
    """
    head: Any = module.segmentor.decode_head
    height, width = module.shape
    channels = module.channels
    outputs = 1 if module.segmentor.out_channels == 1 else int(module.segmentor.out_channels)
    normalization: Mapping[str, Any] | None = None
    if module.normalizes:
        mean, std = (values.flatten().tolist() for values in (module.mean, module.std))
        # In the order of the input's channels.
        if module.reverses and channels == 3:
            mean, std = mean[::-1], std[::-1]
        normalization = dict(mean=mean, std=std)
    policy = getattr(module.segmentor.backbone, 'policy', None)
    return dict(
        version=VERSION,
        model=name,
        input=dict(
            name='image',
            shape=[batch_size, channels, height, width],
            dtype='float32',
            range=[0, 255],
            channel_order='RGB' if channels == 3 else 'as loaded',
            normalized_inside=normalization,
        ),
        output=dict(
            name='scores',
            shape=[batch_size, outputs, height, width],
            dtype='float32',
            labels='threshold' if outputs == 1 else 'argmax',
            threshold=float(head.threshold) if outputs == 1 else None,
        ),
        classes=None if classes is None else list(classes),
        palette=None if palette is None else [list(map(int, colour)) for colour in palette],
        allocation=None if policy is None else repr(policy),
        made_with=dict(mmseg_arta=__version__, torch=torch.__version__),
    )
