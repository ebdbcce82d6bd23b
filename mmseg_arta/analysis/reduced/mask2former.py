"""Sparse Mask2Former at reduced depth."""

from __future__ import annotations

from typing import Any

from .registry import reduces


@reduces('SparseMask2FormerHead')
def reduce_mask2former(config: dict[str, Any]) -> dict[str, Any]:
    """One encoder layer, and one decoder layer for every level that queries attend to."""
    pixel_decoder = config.get('pixel_decoder', 'point')
    if isinstance(pixel_decoder, str):
        pixel_decoder = dict(type=pixel_decoder)
    config['pixel_decoder'] = pixel_decoder | dict(num_layers=1)
    decoder = config.get('transformer_decoder') or {}
    levels = len(config['in_channels']) - 1
    config['transformer_decoder'] = decoder | dict(num_layers=levels)
    return config
