"""Stock backbones at reduced depth."""

from __future__ import annotations

from typing import Any

from .registry import reduces


@reduces('MixVisionTransformer')
def reduce_mit(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every stage."""
    config['num_layers'] = [1] * config.get('num_stages', 4)
    return config


@reduces('SwinTransformer')
def reduce_swin(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every stage, a second one with shifted windows in the first."""
    depths = config.get('depths', (2, 2, 6, 2))
    config['depths'] = [min(depths[0], 2), *(1 for _ in depths[1:])]
    return config


@reduces('ResNet', 'ResNetV1c', 'ResNetV1d')
def reduce_resnet(config: dict[str, Any]) -> dict[str, Any]:
    """The shallowest network of the same blocks: 18 of basic ones, 50 of bottlenecks."""
    config['depth'] = 18 if config['depth'] < 50 else 50
    return config
