"""A budget per image, in tokens or GFLOPs, that is never exceeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ....option_checks import check_number, check_numbers, check_thresholds, check_whole
from ....structures.host_values import are_numbers, on_device
from ..segments import segment_top
from .base import AllocationPolicy, Candidates, check_length
from .costs import TokenCosts, plan_split


@MODELS.register_module()
class BudgetAllocation(AllocationPolicy):
    """The highest scores, as many as a budget per image pays for.

    Every image spends its budget to within one refined token, unless all of its tokens are
    refined before; nothing but the scores decides where. How much each round gets follows
    from ``shape``. In slide inference an image is a window. It can be trained with, but is
    made for inference: ``allocation=dict(train=dict(...), test=dict(type='BudgetAllocation'))``.

    Args:
        tokens: budget in tokens of all levels, the coarse ones included.
        gflops: or a budget in GFLOPs in the papers' sense, multiply-accumulates of the whole
            model; needs ``costs``.
        costs: :class:`TokenCosts` of the model in GFLOPs, or their config. For ``tokens``
            every token costs one.
        shape: shares of the candidates that the rounds refine, up to a common factor; by
            default the largest shares that ADE20K needs (DUPS table 8).
        thresholds: leave out tokens whose score does not exceed their round's threshold, even
            if the budget would pay for them. None spends all of it.

    Raises:
        ValueError: unless there is one budget, and costs where it is in GFLOPs.
    """

    def __init__(
        self,
        tokens: int | None = None,
        gflops: float | None = None,
        costs: TokenCosts | Mapping[str, Any] | None = None,
        shape: Sequence[float] = (0.85, 0.7, 0.6),
        thresholds: Sequence[float] | None = None,
    ) -> None:
        if (tokens is None) == (gflops is None):
            raise ValueError(
                'BudgetAllocation needs either tokens or gflops per image, found '
                f'tokens={tokens}, gflops={gflops}'
            )
        if gflops is not None and costs is None:
            raise ValueError(
                'BudgetAllocation: a budget in GFLOPs needs costs, the GFLOPs of a token of each '
                'level in the whole model: costs=dict(tokens=(...), fixed=..., pairs=...)'
            )
        if tokens is not None and costs is not None:
            raise ValueError('BudgetAllocation.costs belong to gflops; each of tokens costs one')
        check_whole(self, optional=True, tokens=tokens)
        check_number(self, above=0.0, optional=True, gflops=gflops)
        self.shape = check_numbers(self, shape=shape)
        if any(not value > 0 for value in self.shape):
            raise ValueError(f'BudgetAllocation.shape must be positive, found {list(shape)}')
        self.tokens, self.gflops = tokens, gflops
        self.costs = TokenCosts((1.0,) * (len(self.shape) + 1))
        if costs is not None:
            self.costs = TokenCosts.of(costs)
        self.thresholds: tuple[float, ...] | None = None
        if thresholds is not None:
            self.thresholds = check_thresholds(self, thresholds=thresholds)

    @property
    def budget(self) -> float:
        """Tokens or GFLOPs per image; both may be set anew between two images."""
        budget = self.tokens if self.gflops is None else self.gflops
        assert budget is not None, 'neither tokens nor gflops are set'
        return float(budget)

    def check_rounds(self, rounds: int) -> None:
        check_length('BudgetAllocation.shape', self.shape, rounds)
        if self.thresholds is not None:
            check_length('BudgetAllocation.thresholds', self.thresholds, rounds)
        if len(self.costs.tokens) != rounds + 1:
            raise ValueError(
                f'BudgetAllocation.costs.tokens must hold one cost per level: expected '
                f'{rounds + 1}, found {len(self.costs.tokens)}'
            )

    def host_counts(
        self, candidates: Candidates, round_index: int, training: bool
    ) -> tuple[int, ...] | None:
        if self.thresholds is not None or not are_numbers(candidates.lengths):
            return None
        return tuple(self._wanted(candidates, round_index))

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        if not are_numbers(candidates.lengths):
            # A graph has no values of its token counts to branch on.
            present = [count for level in _present(candidates) for count in level]
            price = (self.costs.tokens, self.costs.fixed, self.costs.pairs)
            plan = self._plan(candidates, round_index)
            wanted = _planned(candidates.scores, candidates.lengths, present, *price, *plan)
        else:
            # All counts are known on the host, so nothing is read from the device.
            wanted = on_device(self._wanted(candidates, round_index), candidates.scores.device)
        selected = segment_top(candidates.scores, candidates.batch, candidates.offsets, wanted)
        if self.thresholds is not None:
            selected = selected & candidates.above(self.thresholds, round_index)
        return selected

    def _wanted(self, candidates: Candidates, round_index: int) -> list[int]:
        """How many candidates of every image the budget pays for."""
        plan = self._plan(candidates, round_index)
        return _affordable(candidates.lengths, _present(candidates), self.costs, *plan)

    def _plan(
        self, candidates: Candidates, round_index: int
    ) -> tuple[float, str, tuple[float, ...], int, bool]:
        """What :func:`_affordable` takes behind the costs."""
        unit = 'tokens' if self.gflops is None else 'GFLOPs'
        # Candidates may be of several levels.
        return self.budget, unit, self.shape, round_index, candidates.level is not None

    def __repr__(self) -> str:
        budget = f'tokens={self.tokens}' if self.gflops is None else f'gflops={self.gflops}'
        return f'{type(self).__name__}({budget}, shape={self.shape}, thresholds={self.thresholds})'


def _present(candidates: Candidates) -> Sequence[Sequence[int]]:
    """Tokens ``[level][image]`` so far.

    Raises:
        ValueError: if the encoder does not tell.
    """
    if not candidates.present:
        raise ValueError('BudgetAllocation needs to be told which tokens are present')
    return candidates.present


def _affordable(
    lengths: Sequence[int],
    present: Sequence[Sequence[int]],
    costs: TokenCosts,
    budget: float,
    unit: str,
    shape: Sequence[float],
    round_index: int,
    mixed: bool,
) -> list[int]:
    """How many candidates of every image a round may refine.

    Args:
        lengths: candidates per image.
        present: tokens ``[level][image]`` so far.
        costs: of the tokens.
        budget: per image.
        unit: that it is in, for messages.
        shape: shares of the candidates that the rounds refine, up to a common factor.
        round_index: 0 for the first round.
        mixed: whether candidates are of several levels.
    """
    keep = []
    for candidates, *counts in zip(lengths, *present, strict=True):
        spent = costs.total(counts)
        if round_index == 0 and spent > budget:
            raise ValueError(
                f'BudgetAllocation: the budget of {budget:g} {unit} per image is below the '
                f'{spent:g} that its {counts[0]} coarse tokens take'
            )
        child_costs = costs.tokens[round_index + 1 :]
        if mixed:
            # New tokens may be of several levels: assume the most expensive one.
            child_costs = (max(costs.tokens[1 : round_index + 2]), *child_costs[1:])
        keep.append(plan_split(candidates, budget - spent, child_costs, shape[round_index:]))
    return keep


@torch.library.custom_op(
    'mmseg_arta::plan_budget',
    mutates_args=(),
    schema='(Tensor scores, SymInt[] lengths, SymInt[] present, float[] tokens, float fixed, '
    'float pairs, float budget, str unit, float[] shape, int round_index, bool mixed) -> Tensor',
)
def _planned(scores, lengths, present, tokens, fixed, pairs, *plan):
    images = len(lengths)
    levels = [present[first : first + images] for first in range(0, len(present), images)]
    costs = TokenCosts(tuple(tokens), fixed, pairs)
    keep = _affordable(lengths, levels, costs, *plan)
    return torch.tensor(keep, dtype=torch.int64, device=scores.device)


@_planned.register_fake
def _(scores, lengths, *rest):
    return scores.new_empty((len(lengths),), dtype=torch.int64)
