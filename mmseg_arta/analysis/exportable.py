"""The model of a config, ready to be exported or to be compared with what was."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config

from ..engine.export import ImageToScores, fix_allocation
from ..models.backbones.pretrained import drop_pretrained
from .flops.load import build_model


def exportable(
    config: Config, checkpoint: str | None, allocation: str, shape: tuple[int, int]
) -> ImageToScores:
    """A segmentor with its preprocessing, in eval mode on the CPU.

    Args:
        config: of the segmentor.
        checkpoint: its weights; random ones without, the same in every call.
        allocation: see :func:`~mmseg_arta.engine.export.fix_allocation`.
        shape: ``(height, width)`` of the images in pixels.

    Raises:
        OSError, ValueError: if the checkpoint, the allocation or the model does not fit.
    """
    torch.manual_seed(0)
    model: Any = build_model(config, checkpoint)
    if checkpoint is None:
        drop_pretrained(model)
        model.init_weights()
    fix_allocation(model, allocation)
    preprocessor = config.model.get('data_preprocessor') or config.get('data_preprocessor') or {}
    loads_bgr = not preprocessor.get('rgb_to_bgr', False)
    return ImageToScores(model, shape, loads_bgr=loads_bgr).eval()
