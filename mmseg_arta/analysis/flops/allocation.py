"""Allocation that is decided beforehand, for counting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ...models.allocation import AllocationPolicy
from ...models.allocation.policies import Candidates

#: Largest share of candidates that get finer tokens, per round (ARTA 4.1, DUPS table 8).
CAPS = (0.85, 0.7, 0.6)

ALLOCATIONS = ('full', 'caps', 'model')


class EvenAllocation:
    """Splits a fixed share of every image's candidates, spread evenly, whatever their scores.

    Args:
        shares: of every round, in [0, 1], the last one for all further rounds as well; the number
            of candidates is rounded down.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        self.shares = tuple(shares)

    def check_rounds(self, rounds: int) -> None:
        """Any number of rounds will do."""

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        share = self.shares[min(round_index, len(self.shares) - 1)]
        chosen = []
        for length in candidates.lengths:
            keep = int(length * share)
            row = torch.arange(length, device=candidates.scores.device)
            chosen.append((row + 1) * keep // max(length, 1) > row * keep // max(length, 1))
        return torch.cat(chosen)


def allocating_modules(model: nn.Module) -> list[nn.Module]:
    """Modules of a model that allocate tokens by a policy."""
    return [
        module
        for module in model.modules()
        if isinstance(getattr(module, 'policy', None), AllocationPolicy)
    ]


@contextmanager
def forced_allocation(model: nn.Module, allocation: str) -> Iterator[None]:
    """Within this context the model's tokens are allocated as named, afterwards as before.

    Args:
        model: any model.
        allocation: 'full' for all candidates; 'caps' for the policy's caps, or :data:`CAPS` for a
            policy that has none; 'model' for what the model itself decides.

    Raises:
        ValueError: for another name, or if the model allocates no tokens but is told how.
    """
    if allocation not in ALLOCATIONS:
        raise ValueError(
            f'allocation must be one of {", ".join(ALLOCATIONS)}, found {allocation!r}'
        )
    modules = [] if allocation == 'model' else allocating_modules(model)
    if not modules and allocation != 'model':
        raise ValueError(
            f'allocation {allocation!r} needs a model that allocates tokens by a policy (such as '
            f"ARTA), found none in {type(model).__name__}: use 'model'"
        )
    policies = [module.policy for module in modules]
    try:
        for module, policy in zip(modules, policies, strict=True):
            caps = policy.caps or CAPS
            module.policy = EvenAllocation((1.0,) if allocation == 'full' else caps)
        yield
    finally:
        for module, policy in zip(modules, policies, strict=True):
            module.policy = policy
