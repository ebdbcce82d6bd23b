"""A bound on the tokens of an image, whatever a policy selects."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.logging import print_log
from torch import Tensor

from ...structures import TokenSet
from .segments import segment_counts, segment_top


@dataclass(frozen=True)
class TokenBound:
    """At most so many tokens per image, of all levels together.

    What a policy selects is kept as long as there is room; of a round's selection that is more,
    the highest scores, and among equal ones the first. So a round that has room to the end
    changes nothing, and later rounds get what earlier ones left.

    Attributes:
        most: tokens per image, the coarse ones included.
        present: ``(B,)`` int64 tokens that every image has before the round, on the device.
    """

    most: int
    present: Tensor

    @classmethod
    def on(cls, levels: Sequence[TokenSet], most: int | None) -> TokenBound | None:
        """The bound for tokens that have ``levels`` already; None if there is none."""
        if most is None:
            return None
        counts = torch.stack([level.offsets.diff() for level in levels])
        return cls(most, counts.sum(0, dtype=torch.int64))

    def keep(
        self, selected: Tensor, scores: Tensor | None, batch: Tensor, offsets: Tensor
    ) -> Tensor:
        """Which of the selected candidates get children, ``(N,)`` bool.

        Reads no value on the host.

        Args:
            selected: ``(N,)`` bool, what the policy selects.
            scores: ``(N,)`` predicted scores. None if nothing predicts them: then the ones that
                stay are spread evenly over the selected ones.
            batch: ``(N,)`` int64 image of each candidate.
            offsets: ``(B + 1,)`` row offsets.
        """
        room = torch.div(self.most - self.present, 4, rounding_mode='floor').clamp(min=0)
        if scores is not None:
            best = scores.detach().masked_fill(~selected, -torch.inf)
            return segment_top(best, batch, offsets, room) & selected
        wanted = segment_counts(selected, offsets)
        room = torch.minimum(room, wanted)[batch]
        wanted = wanted.clamp(min=1)[batch]
        running = torch.nn.functional.pad(selected.to(torch.int64).cumsum(0), (1, 0))
        before = running[:-1] - running[offsets[:-1].long()][batch]
        share = torch.div((before + 1) * room, wanted, rounding_mode='floor')
        return selected & (share > torch.div(before * room, wanted, rounding_mode='floor'))

    def totals(self, selected: Tensor, offsets: Tensor) -> Tensor:
        """``(B,)`` int64 tokens that images would have with children of all ``selected``."""
        return self.present + 4 * segment_counts(selected, offsets)


# Bounds that were told of.
_told: set[int] = set()


def tell_of_bound(totals: Sequence[int], most: int) -> None:
    """Warn if an image would have more than ``most`` tokens; once for every bound."""
    if most in _told or max(totals, default=0) <= most:
        return
    _told.add(most)
    print_log(
        f'max_tokens is {most}: an image would have got {max(totals)} tokens, and gets at most '
        f'{most}, those with the best scores. This is said once, whatever comes after',
        logger='current',
        level=logging.WARNING,
    )
