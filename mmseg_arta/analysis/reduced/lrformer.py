"""LRFormer at reduced depth."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...models.backbones.arch import resolve_arch
from ...models.backbones.lrformer import LRFORMER_ARCHS
from .registry import reduces


@reduces('LRFormer')
def reduce_lrformer(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every stage, with batch normalisation of its input if the arch has any."""
    arch = resolve_arch(config.get('arch', 'small'), LRFORMER_ARCHS)
    config['arch'] = asdict(arch) | dict(
        depths=(1, 1, 1, 1), pre_norm_blocks=(0,) if arch.pre_norm_blocks else ()
    )
    return config
