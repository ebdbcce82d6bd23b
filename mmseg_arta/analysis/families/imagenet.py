"""Classifiers on ImageNet, whose weights the segmentation models start from."""

from __future__ import annotations

from ..family import Chapter, Family, Figures, Row

# Config up to its recipe; what the paper prints in millions and billions; what was measured on the
# published code, of LRFormer the backbone alone.
_LRFORMER = (
    ('LRFormer-T', 'lrformer-t_8xb128-300e_in1k', (13, 1.8), 1.72),
    ('LRFormer-S', 'lrformer-s_8xb128-300e_in1k', (30, 4.7), 4.58),
    ('LRFormer-B', 'lrformer-b_8xb128-300e_in1k', (62, 9.3), 9.18),
    ('LRFormer-L', 'lrformer-l_8xb128-300e_in1k', (101, 15.7), 15.52),
    ('LRFormer-XL', 'lrformer-xl-in22k_8xb64-30e_in1k', (187, 31.6), 31.37),
)
_AFF = (
    ('AFF-Mini', 'aff-mini_16xb256-300e_in1k', (6.75, 1.08), None),
    ('AFF-Tiny', 'aff-tiny_16xb256-300e_in1k', (27, 4.03), None),
    ('AFF-Small', 'aff-small_16xb256-300e_in1k', (42.6, 8.16), None),
    ('AFF-Mini-1/5', 'aff-mini-1-5_16xb256-300e_in1k', (6.75, 0.72), None),
    ('AFF-Tiny-1/5', 'aff-tiny-1-5_16xb256-300e_in1k', (27, 2.74), None),
    ('AFF-Small-1/5', 'aff-small-1-5_16xb256-300e_in1k', (42.6, 5.69), None),
    ('Swin-Mini', 'swin-mini_16xb256-300e_in1k', (6.76, 1.07), None),
)
_MIXED = tuple(
    (f'{family}-{size.capitalize()}', f'{family.lower()}-{size}_16xb64-300e_in1k')
    for family in ('ARTA', 'DUPS')
    for size in ('tiny', 'small', 'base')
)


def _rows() -> list[Row]:
    side = 224
    rows = [
        Row(
            name,
            f'{config}-{side}x{side}',
            (side, side),
            paper=Figures(*paper),
            code=Figures(None, code),
        )
        for name, config, paper, code in (*_LRFORMER, *_AFF)
    ]
    rows += [Row(name, f'{config}-{side}x{side}', (side, side), 'full') for name, config in _MIXED]
    return rows


FAMILY = Family(
    chapter=Chapter(
        7,
        'Classifiers on ImageNet',
        tuple(_rows()),
        (
            "Paper: LRFormer table 6, AFF table 2. Code: LRFormer's backbone, measured on the "
            "published implementation with random weights. AFF's authors counted neither norms "
            'nor their custom kernels. Of ARTA and DUPS no figures at this size were published; '
            'they are counted with all tokens, as pre-training starts.',
        ),
    ),
)
