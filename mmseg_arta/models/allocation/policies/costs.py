"""What tokens cost: the model behind a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ....option_checks import check_number, check_numbers


@dataclass(frozen=True)
class TokenCosts:
    """Cost of a forward pass over one image as a function of its token counts.

    Cluster attention, feed-forward networks and the point-based decoder cost the same for
    every token; what is dense costs the same for every coarse token, since these cover the
    canvas; global attention costs for every pair of coarse tokens. So the cost is
    ``fixed + pairs * N^2 + sum over levels of tokens[l] * n_l`` with ``N = n_0`` coarse tokens.

    Attributes:
        tokens: cost of one token, coarse to fine. Not negative.
        fixed: cost of any image.
        pairs: cost of a pair of coarse tokens.
    """

    tokens: tuple[float, ...]
    fixed: float = 0.0
    pairs: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, 'tokens', check_numbers('costs', tokens=self.tokens))
        check_number('costs', fixed=self.fixed, pairs=self.pairs)
        if any(not cost >= 0 for cost in self.tokens):
            raise ValueError(
                f'costs.tokens must be one non-negative cost per level, found {self.tokens}'
            )
        # Free finer tokens would make any number of them affordable.
        if min(self.tokens[1:], default=1.0) == 0:
            raise ValueError(f'costs.tokens: finer tokens must cost something: {self.tokens}')

    @classmethod
    def of(cls, value: TokenCosts | Mapping[str, Any]) -> TokenCosts:
        """Costs, or their config with the fields as keys.

        Raises:
            ValueError: for unknown or missing keys.
        """
        if isinstance(value, TokenCosts):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f'costs must be a dict with tokens, found {value!r}')
        unknown = sorted(set(value) - {'tokens', 'fixed', 'pairs'})
        if unknown or 'tokens' not in value:
            raise ValueError(
                f'costs must hold tokens, and may hold fixed and pairs, found {sorted(value)}'
            )
        return cls(**value)

    def total(self, counts: Sequence[int]) -> float:
        """Cost of an image with ``counts`` tokens per level, coarse to fine."""
        tokens = sum(cost * count for cost, count in zip(self.tokens, counts, strict=False))
        return self.fixed + self.pairs * counts[0] ** 2 + tokens

    def to_config(self) -> dict[str, Any]:
        """Plain numbers, as configs hold them."""
        return asdict(self)

    @classmethod
    def fit(cls, counts: Sequence[Sequence[int]], costs: Sequence[float]) -> TokenCosts:
        """Least squares of measured passes, raised so that none of them is underestimated.

        Args:
            counts: tokens per level of every pass, coarse to fine. They must differ enough:
                several canvas sizes, and several allocations on each.
            costs: what the passes cost, in the unit of the budget.

        Raises:
            ValueError: if the passes do not determine the costs.
        """
        rows = torch.tensor([list(row) for row in counts], dtype=torch.float64)
        measured = torch.tensor(list(costs), dtype=torch.float64)
        if rows.ndim != 2 or len(rows) != len(measured):
            raise ValueError(
                f'expected the tokens per level and the cost of every pass, found '
                f'{len(counts)} and {len(costs)}'
            )
        system = torch.cat((torch.ones(len(rows), 1), rows[:, :1].square(), rows), 1)
        scale = system.abs().amax(0).clamp(min=1e-12)
        if len(rows) < system.shape[1] or torch.linalg.matrix_rank(system / scale) < len(scale):
            raise ValueError(
                f'{len(rows)} passes do not determine {system.shape[1]} costs: measure other '
                'canvas sizes and allocations too'
            )
        solution = torch.linalg.lstsq(system / scale, measured[:, None], driver='gelsd').solution
        fixed, pairs, *tokens = (solution[:, 0] / scale).tolist()
        error = float((measured - system @ torch.tensor([fixed, pairs, *tokens]).double()).max())
        return cls(tuple(tokens), fixed + max(error, 0.0) * (1 + 1e-9), pairs)


def plan_split(
    counts: int, remaining: float, child_costs: Sequence[float], shape: Sequence[float]
) -> int:
    """How many of an image's candidates a round may refine.

    This round and those after it refine shares ``min(1, s * shape)`` of their candidates, with
    the largest ``s`` that the rest of the budget pays for; the last round spends what is left.

    Args:
        counts: candidates of the image.
        remaining: what is left of the budget.
        child_costs: cost of a new token of this round and of those after it.
        shape: shares of these rounds, up to a common factor, all positive.

    Returns:
        The number, such that its new tokens cost at most what remains.
    """
    affordable = math.floor(remaining / (4 * child_costs[0]))
    if len(child_costs) == 1:
        return max(min(counts, affordable), 0)

    def spent(factor: float) -> float:
        total, tokens = 0.0, float(counts)
        for cost, share in zip(child_costs, shape, strict=True):
            tokens *= 4 * min(1.0, factor * share)
            total += tokens * cost
        return total

    low, high = 0.0, 1.0 / min(shape)
    if spent(high) <= remaining:
        low = high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) <= remaining else (low, middle)
    # Rounded up: a share of a token would leave all later rounds without candidates.
    wanted = math.ceil(counts * min(1.0, low * shape[0]) - 1e-9)
    return max(min(counts, wanted, affordable), 0)
