"""AutoFocusFormer: what was published, and what to count."""

from __future__ import annotations

from .rows import Family, Figures, Row

# Parameters with the decoder (measured on the code), costs on ADE20K (the authors' README), and
# of the published code with the two final resizes left out.
_PUBLISHED = {
    'mini': (25.80, 48.3, 48.39, 39.9, 40.04),
    'tiny': (45.98, 64.6, 64.74, 51.1, 51.49),
    'small': (61.44, 87.0, 86.87, 67.2, 67.44),
}


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
    'AutoFocusFormer',
    tuple(_rows()),
    (
        'Paper: the figures that the authors print beside their ADE20K models. Code: measured on '
        'the published implementation with random weights; the two resizes after the decoder, '
        '0.26 G, are not in it.',
    ),
)
