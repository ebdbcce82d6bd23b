"""AutoFocusFormer, and its comparison with a Swin of the same sizes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...models.backbones.aff import AFF_ARCHS
from ...models.backbones.arch import resolve_arch
from ..family import Chapter, Family, Figures, Row

# Parameters with the decoder (measured on the code), costs on ADE20K (the authors' README), and
# of the published code with the two final resizes left out.
_PUBLISHED = {
    'mini': (25.80, 48.3, 48.39, 39.9, 40.04),
    'tiny': (45.98, 64.6, 64.74, 51.1, 51.49),
    'small': (61.44, 87.0, 86.87, 67.2, 67.44),
}


def reduce_aff(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every stage."""
    arch = resolve_arch(config.get('arch', 'tiny'), AFF_ARCHS)
    config['arch'] = asdict(arch) | dict(depths=(1,) * len(arch.depths))
    return config


def reduce_aff_swin(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every stage, a second one with shifted windows in the first."""
    arch = resolve_arch(config.get('arch', 'mini'), AFF_ARCHS)
    depths = (min(arch.depths[0], 2), *(1 for _ in arch.depths[1:]))
    config['arch'] = asdict(arch) | dict(depths=depths)
    return config


def _rows() -> list[Row]:
    rows = []
    for rate in ('', '-1-5'):
        for size, (params, quarter, quarter_code, fifth, fifth_code) in _PUBLISHED.items():
            rows.append(
                Row(
                    f'AFF-{size.capitalize()}{rate.replace("-1-5", "-1/5")}, ADE20K',
                    f'aff-{size}{rate}_mask2former_4xb8-80k_ade20k-512x512',
                    paper=Figures(None, fifth if rate else quarter),
                    code=Figures(params, fifth_code if rate else quarter_code),
                )
            )
    return rows


FAMILY = Family(
    reducers={'AutoFocusFormer': reduce_aff, 'AFFSwin': reduce_aff_swin},
    variants={'AutoFocusFormer': ('arch', 'downsample_rate')},
    chapter=Chapter(
        3,
        'AutoFocusFormer',
        tuple(_rows()),
        (
            'Paper: the figures that the authors print beside their ADE20K models. Code: measured '
            'on the published implementation with random weights; the two resizes after the '
            'decoder, 0.26 G, are not in it.',
        ),
    ),
)
