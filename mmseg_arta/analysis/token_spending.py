"""Where tokens are spent: on class boundaries or away from them, by chance, or at best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..engine.token_view import ChosenPatches
from ..ops import patch_share


@dataclass(frozen=True)
class Spending:
    """How a round's choice of patches relates to the class boundaries of an image.

    Random is the mean over all choices of equally many of the image's patches; oracle takes
    those that hold most boundary pixels.

    Attributes:
        name: of the round, stage or step.
        patch_size: side of a patch in pixels.
        patches: of the image.
        chosen: how many were.
        boundary: boundary pixels of the image.
        covered, covered_random, covered_oracle: of these under chosen patches.
        away, away_random, away_oracle: chosen patches without a boundary pixel.
    """

    name: str
    patch_size: int
    patches: int
    chosen: int
    boundary: int
    covered: float
    covered_random: float
    covered_oracle: float
    away: float
    away_random: float
    away_oracle: float

    @classmethod
    def of(cls, patches: ChosenPatches, edges: np.ndarray) -> Spending:
        """Of an image, or a window of one.

        Args:
            patches: what was chosen.
            edges: ``(H, W)`` bool, see :func:`~mmseg_arta.ops.boundary_map`.

        Raises:
            ValueError: if there are not as many patches as the image has.
        """
        side = patches.patch_size
        share = patch_share(torch.from_numpy(edges[None]), side)[0].numpy()
        if share.shape != patches.chosen.shape:
            raise ValueError(
                f'{patches.name}: expected {share.shape} patches of {side} px for an image of '
                f'{edges.shape} px, found {patches.chosen.shape}'
            )
        pixels = np.round(share * side**2).ravel()
        chosen = patches.chosen.ravel()
        count, total = int(chosen.sum()), len(chosen)
        best = np.sort(pixels)[::-1][:count]
        return cls(
            patches.name,
            side,
            total,
            count,
            int(pixels.sum()),
            float(pixels[chosen].sum()),
            float(pixels.sum() * count / total),
            float(best.sum()),
            float((pixels[chosen] == 0).sum()),
            float((pixels == 0).sum() * count / total),
            float((best == 0).sum()),
        )


@dataclass(frozen=True)
class SpendingRow:
    """A round over images, in percent.

    Attributes:
        name, patch_size: see :class:`Spending`.
        chosen: of the patches.
        covered, covered_random, covered_oracle: of the boundary pixels; NaN without any.
        away, away_random, away_oracle: of the chosen patches; NaN without any.
    """

    name: str
    patch_size: int
    chosen: float
    covered: float
    covered_random: float
    covered_oracle: float
    away: float
    away_random: float
    away_oracle: float


def spending_table(spendings: Sequence[Spending]) -> list[SpendingRow]:
    """Sums over images for every round; pixels and patches count alike, wherever they are."""
    rows = []
    for name in dict.fromkeys(one.name for one in spendings):
        of_round = [one for one in spendings if one.name == name]

        def share(part: str, whole: str, of_round: list[Spending] = of_round) -> float:
            total = sum(getattr(one, whole) for one in of_round)
            found = sum(getattr(one, part) for one in of_round)
            return 100 * found / total if total else float('nan')

        kinds = ('', '_random', '_oracle')
        rows.append(
            SpendingRow(
                name,
                of_round[0].patch_size,
                share('chosen', 'patches'),
                *(share(f'covered{kind}', 'boundary') for kind in kinds),
                *(share(f'away{kind}', 'chosen') for kind in kinds),
            )
        )
    return rows
