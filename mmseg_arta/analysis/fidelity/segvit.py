"""SegViT and what STEP makes of it: what was published, and what to count."""

from __future__ import annotations

from .rows import Family, Figures, Row

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


def _rows() -> list[Row]:
    return [
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


FAMILY = Family(
    'SegViT and the baselines of STEP',
    tuple(_rows()),
    (
        'Paper: the figures that the authors of SegViT print beside their models, and for the '
        'second version of the head ("v2") tables 3 to 6 of STEP; those 113, 373 and 624 G fit '
        'within 0.3 % when the three input projections are left out. Code: measured on the '
        'published implementations with random weights. COCO is COCO-Stuff 10k.',
        'What merging and halting save depends on the image: `tools/analyze_tokens.py` counts it.',
    ),
)
