"""SegViT and what STEP makes of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...models.backbones.arch import resolve_arch
from ...models.backbones.step_vit import VIT_ARCHS
from ..family import Chapter, Family, Figures, Row

#: Published figures of the second version end with the class scores before they are resized; those
#: of the first hold the product of classes and masks at full size.
_WITHOUT = ('post_processing',)

# Name, config, side of the image, what was published, what was measured on the published code.
_ROWS = (
    ('SegViT ViT-B, ADE20K', 'segvit_vit-b16_8xb2-160k_ade20k', 512, 120.9, 108.74, 120.72),
    ('SegViT ViT-L, ADE20K', 'segvit_vit-l16_8xb2-160k_ade20k', 640, 637.9, 344.30, 637.63),
    ('SegViT ViT-L, COCO', 'segvit_vit-l16_8xb2-80k_coco-stuff10k', 512, 383.9, 343.74, 383.72),
    ('Shrunk ViT-L, ADE20K', 'segvit-shrunk_vit-l16_8xb2-160k_ade20k', 640, 373.5, None, 373.29),
    (
        'Shrunk ViT-L, COCO',
        'segvit-shrunk_vit-l16_8xb2-80k_coco-stuff10k',
        512,
        224.8,
        None,
        224.67,
    ),
    ('v2 ViT-B, ADE20K', 'segvit-v2_vit-b16_1xb4-160k_ade20k', 512, 113, 103.35, 113.85),
    ('v2 ViT-L, ADE20K', 'segvit-v2_vit-l16_1xb4-160k_ade20k', 640, 624, 334.76, 626.75),
    ('v2 ViT-L, COCO', 'segvit-v2_vit-l16_1xb4-80k_coco-stuff10k', 512, 373, 334.18, 374.12),
    ('v2 ViT-B, Cityscapes', 'segvit-v2_vit-b16_1xb4-90k_cityscapes', 512, 110, None, 111.04),
    ('v2 ViT-B, Cityscapes', 'segvit-v2_vit-b16_1xb4-90k_cityscapes', 768, 301, None, 303.9),
    ('v2 ViT-B, Cityscapes', 'segvit-v2_vit-b16_1xb4-90k_cityscapes', 1024, 670, None, 675.3),
    ('v2 ViT-L, Cityscapes', 'segvit-v2_vit-l16_1xb4-90k_cityscapes', 768, 970, None, 974.5),
    ('v2 ViT-L, Cityscapes', 'segvit-v2_vit-l16_1xb4-90k_cityscapes', 1024, 2086, None, 2092.9),
)

# Content-aware token sharing merges a share of the groups that is fixed beforehand.
_CTS_ROWS = (
    ('CTS ViT-B, ADE20K', 'cts_vit-b16_1xb4-160k_ade20k', 512, 75),
    ('CTS ViT-B, Cityscapes', 'cts_vit-b16_1xb4-90k_cityscapes', 512, 73),
    ('CTS ViT-B, Cityscapes', 'cts_vit-b16_1xb4-90k_cityscapes', 768, 190),
    ('CTS ViT-B, Cityscapes', 'cts_vit-b16_1xb4-90k_cityscapes', 1024, 403),
    ('CTS ViT-L, COCO', 'cts_vit-l16_1xb4-80k_coco-stuff10k', 512, 251),
    ('CTS ViT-L, ADE20K', 'cts_vit-l16_1xb4-160k_ade20k', 640, 410),
    ('CTS ViT-L, Cityscapes', 'cts_vit-l16_1xb4-90k_cityscapes', 768, 622),
    ('CTS ViT-L, Cityscapes', 'cts_vit-l16_1xb4-90k_cityscapes', 1024, 1283),
)

_ATM_HEADS = ('ATMHead', 'HaltingATMHead', 'ShrunkATMHead', 'ATMTokenClassifier')


def reduce_step_vit(config: dict[str, Any]) -> dict[str, Any]:
    """One block per output, halting point and change of resolution, and one behind the last."""
    arch = asdict(resolve_arch(config.get('arch', 'base'), VIT_ARCHS))
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


def reduce_atm_head(config: dict[str, Any]) -> dict[str, Any]:
    """One decoder layer per stage."""
    config['num_layers'] = 1
    return config


def _rows() -> list[Row]:
    rows = [
        Row(
            f'{name}, {side}' if 'Cityscapes' in name else name,
            f'{config}-{side}x{side}',
            (side, side),
            paper=Figures(None, paper),
            code=Figures(params, code),
            without=_WITHOUT if name.startswith('v2') else (),
        )
        for name, config, side, paper, params, code in _ROWS
    ]
    rows += [
        Row(
            f'{name}, {side}' if 'Cityscapes' in name else name,
            f'{config}-{side}x{side}',
            (side, side),
            paper=Figures(None, paper),
            without=_WITHOUT,
            dry=False,
        )
        for name, config, side, paper in _CTS_ROWS
    ]
    return rows


FAMILY = Family(
    reducers={
        'StepViT': reduce_step_vit,
        **dict.fromkeys(_ATM_HEADS, reduce_atm_head),
    },
    variants={'StepViT': ('merging.type', 'halting.policy.type')},
    chapter=Chapter(
        6,
        'SegViT and the baselines of STEP',
        tuple(_rows()),
        (
            'Paper: the figures that the authors of SegViT print beside their models, and for the '
            'second version of the head ("v2") tables 3 to 6 of STEP; those 113, 373 and 624 G fit '
            'within 0.3 % when the three input projections are left out. Code: measured on the '
            'published implementations with random weights. COCO is COCO-Stuff 10k.',
            'CTS merges a fixed share of the groups (tables 3 to 6 of STEP). Its policy network is '
            'counted here, 2.0, 3.1, 4.4 and 7.9 G at 512, 640, 768 and 1024 px, and not in the '
            'published figures: without it ours are within 1.5 %.',
            'What other merging and halting saves depends on the image: '
            '`tools/analyze_tokens.py` counts it.',
        ),
    ),
)
