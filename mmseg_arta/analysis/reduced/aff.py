"""AutoFocusFormer at reduced depth."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...models.backbones.aff import AFF_ARCHS
from ...models.backbones.arch import resolve_arch
from .registry import reduces


@reduces('AutoFocusFormer')
def reduce_aff(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every stage."""
    arch = resolve_arch(config.get('arch', 'tiny'), AFF_ARCHS)
    config['arch'] = asdict(arch) | dict(depths=(1,) * len(arch.depths))
    return config


@reduces('AFFSwin')
def reduce_aff_swin(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every stage, a second one with shifted windows in the first."""
    arch = resolve_arch(config.get('arch', 'mini'), AFF_ARCHS)
    depths = (min(arch.depths[0], 2), *(1 for _ in arch.depths[1:]))
    config['arch'] = asdict(arch) | dict(depths=depths)
    return config
