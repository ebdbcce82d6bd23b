"""Plain Vision Transformers with attention-to-mask heads at reduced depth."""

from __future__ import annotations

from typing import Any

from ...models.backbones.step_vit import VIT_ARCHS
from .registry import reduces


@reduces('StepViT')
def reduce_step_vit(config: dict[str, Any]) -> dict[str, Any]:
    """One block per output, halting point and change of resolution, and one behind the last."""
    arch = config.get('arch', 'base')
    arch = dict(VIT_ARCHS[arch] if isinstance(arch, str) else arch)
    halting, shrink = config.get('halting'), config.get('shrink_at')
    if halting:
        arch['num_layers'] = len(halting['after']) + 1
        config['halting'] = {**halting, 'after': tuple(range(1, arch['num_layers']))}
        config['out_indices'] = (arch['num_layers'] - 1,)
    else:
        outputs = config.get('out_indices', (5, 7, 11))
        arch['num_layers'] = len(outputs)
        config['out_indices'] = tuple(range(len(outputs)))
        if shrink is not None:
            config['shrink_at'] = sum(index < shrink for index in outputs)
    config['arch'] = arch
    return config


@reduces('ATMHead', 'HaltingATMHead', 'ShrunkATMHead', 'ATMTokenClassifier')
def reduce_atm_head(config: dict[str, Any]) -> dict[str, Any]:
    """One decoder layer per stage."""
    config['num_layers'] = 1
    return config
