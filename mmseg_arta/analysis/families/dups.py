"""DUPS, whose encoder is ARTA's."""

from __future__ import annotations

from typing import Any

from ...models.backbones.arch import DUPS_ARCHS
from ..family import Chapter, Family
from .arta import CODE_PARAMS, encoder_rows, one_block_per_round

# The published code's small size has four blocks at 4 px, as in the ARTA paper.
_CODE_PARAMS = {size: CODE_PARAMS[size] for size in ('tiny', 'base')}


def reduce_dups(config: dict[str, Any]) -> dict[str, Any]:
    """One block in every round."""
    return one_block_per_round(config, DUPS_ARCHS)


FAMILY = Family(
    reducers={'DUPS': reduce_dups},
    chapter=Chapter(
        2,
        'DUPS',
        encoder_rows('DUPS', _CODE_PARAMS, {}),
        (
            'Paper: DUPS tables 2 to 4. Code: as for ARTA, whose encoder it is; the small size of '
            'DUPS table 1, with two blocks at 4 px instead of four, is not in the published code.',
            'Caps are those of DUPS table 8: 0.85, 0.7, 0.6 on ADE20K and 0.5, 0.7, 0.65 on '
            'Cityscapes. The published means over validation images (44 ± 7, 60.7 ± 9.3 and '
            '82.4 ± 14.0 G on ADE20K, 254 ± 18, 356 ± 27 and 584 ± 38 G on Cityscapes) depend on '
            'trained weights.',
        ),
    ),
)
