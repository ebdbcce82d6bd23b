"""Mask2Former with Swin on dense maps: the baselines of the papers."""

from __future__ import annotations

from typing import Any

from ..family import Chapter, Family, Figures, Row

# Size, parameters, billions of multiply-accumulates on ADE20K, on Cityscapes, image on ADE20K.
_PUBLISHED = (
    ('t', 46.5, 74.0, 537.0, 512),
    ('s', 66.5, 98.0, 732.0, 512),
    ('b', 106.5, 222.7, 1050.0, 640),
)


def reduce_swin(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every stage, a second one with shifted windows in the first."""
    depths = config.get('depths', (2, 2, 6, 2))
    config['depths'] = [min(depths[0], 2), *(1 for _ in depths[1:])]
    return config


def _rows() -> list[Row]:
    rows = []
    for size, params, gmacs, _, side in _PUBLISHED:
        crop = f'{side}x{side}'
        rows.append(
            Row(
                f'Mask2Former Swin-{size.upper()}, ADE20K',
                f'mask2former_swin-{size}_8xb2-160k_ade20k-{crop}',
                (side, side),
                paper=Figures(params, gmacs),
            )
        )
    for size, params, _, gmacs, _ in _PUBLISHED:
        rows.append(
            Row(
                f'Mask2Former Swin-{size.upper()}, Cityscapes',
                f'mask2former_swin-{size}_8xb2-90k_cityscapes-512x1024',
                (1024, 2048),
                paper=Figures(params, gmacs),
            )
        )
    return rows


FAMILY = Family(
    reducers={'SwinTransformer': reduce_swin},
    chapter=Chapter(
        4,
        'Mask2Former with Swin, on dense maps',
        tuple(_rows()),
        (
            'Paper: the baselines in ARTA tables 2 and 3. All maps are dense, and the pixel '
            "decoder is the standard one (`pixel_decoder='grid'`). The Mask2Former paper itself "
            'prints 47, 69 and 107 M parameters for the same models.',
        ),
    ),
)
