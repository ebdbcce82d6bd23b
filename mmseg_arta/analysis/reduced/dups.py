"""DUPS at reduced depth."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...models.backbones.arch import DUPS_ARCHS, resolve_arch
from .registry import reduces


@reduces('DUPS')
def reduce_dups(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every round."""
    arch = resolve_arch(config.get('arch', 'tiny'), DUPS_ARCHS)
    config['arch'] = asdict(arch) | dict(
        allocation_depths=(1,) * len(arch.allocation_depths),
        refinement_depths=(1,) * len(arch.refinement_depths),
    )
    return config
