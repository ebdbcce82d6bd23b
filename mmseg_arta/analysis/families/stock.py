"""Backbones of MMSegmentation that configs here use, of which no figure is compared."""

from __future__ import annotations

from typing import Any

from ..family import Family


def reduce_mit(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every stage."""
    config['num_layers'] = [1] * config.get('num_stages', 4)
    return config


def reduce_resnet(config: dict[str, Any]) -> dict[str, Any]:
    """The shallowest network of the same blocks: 18 of basic ones, 50 of bottlenecks."""
    config['depth'] = 18 if config['depth'] < 50 else 50
    return config


FAMILY = Family(
    reducers={
        'MixVisionTransformer': reduce_mit,
        **dict.fromkeys(('ResNet', 'ResNetV1c', 'ResNetV1d'), reduce_resnet),
    }
)
