"""DUPS: what was published, and what to count."""

from __future__ import annotations

from .rows import Family, Figures, Row

_SIZES = ('tiny', 'small', 'base')
_PAPER_PARAMS = {'tiny': 48.5, 'small': 61.7, 'base': 111.5}
_PAPER_GMACS = {('tiny', 'full'): 74.7, ('tiny', 'caps'): 55.3}
# The published code's small size has four blocks at 4 px, as in the ARTA paper.
_CODE_PARAMS = {'tiny': 49.258008, 'base': 111.189232}
_CODE_GMACS = {
    ('tiny', 'full'): 75.112,
    ('tiny', 'caps'): 55.641,
    ('base', 'full'): 150.799,
    ('base', 'caps'): 112.165,
}


def _rows() -> list[Row]:
    rows = []
    for size in _SIZES:
        for allocation in ('full', 'caps'):
            case = (size, allocation)
            rows.append(
                Row(
                    f'DUPS-{size.capitalize()}, ADE20K',
                    f'dups-{size}_mask2former_4xb8-80k_ade20k-512x512',
                    (512, 512),
                    allocation,
                    Figures(_PAPER_PARAMS[size], _PAPER_GMACS.get(case)),
                    Figures(_CODE_PARAMS.get(size), _CODE_GMACS.get(case)),
                )
            )
    for size in _SIZES:
        for allocation in ('full', 'caps'):
            rows.append(
                Row(
                    f'DUPS-{size.capitalize()}, Cityscapes',
                    f'dups-{size}_mask2former_4xb4-90k_cityscapes-1024x1024',
                    (1024, 2048),
                    allocation,
                    Figures(49.5 if size == 'tiny' else _PAPER_PARAMS[size]),
                )
            )
    return rows


FAMILY = Family(
    'DUPS',
    tuple(_rows()),
    (
        'Paper: DUPS tables 2 to 4. Code: as for ARTA, whose encoder it is; the small size of '
        'DUPS table 1, with two blocks at 4 px instead of four, is not in the published code.',
        'Caps are those of DUPS table 8: 0.85, 0.7, 0.6 on ADE20K and 0.5, 0.7, 0.65 on '
        'Cityscapes. The published means over validation images (44 ± 7, 60.7 ± 9.3 and '
        '82.4 ± 14.0 G on ADE20K, 254 ± 18, 356 ± 27 and 584 ± 38 G on Cityscapes) depend on '
        'trained weights.',
    ),
)
