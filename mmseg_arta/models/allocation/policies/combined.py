"""Policies made of other policies, and how configs become policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor

from .base import AllocationPolicy, Candidates


def build_policy(
    config: Mapping[str, Any] | AllocationPolicy, option: str = 'allocation'
) -> AllocationPolicy:
    """A policy from its config, from ``dict(train=..., test=...)``, or as it is.

    Args:
        config: see above.
        option: what errors call it.

    Raises:
        ValueError: for something else than a policy, or keys that do not belong there.
    """
    if not isinstance(config, Mapping):
        policy: Any = config
    elif 'type' in config:
        policy = MODELS.build(dict(config))
    elif set(config) == {'train', 'test'}:
        policy = TrainTestAllocation(**config)
    else:
        raise ValueError(
            f'{option} must be dict(type=...) or dict(train=dict(type=...), test=dict(type=...)), '
            f'found the keys {sorted(map(str, config))}; a config that replaces one form by the '
            'other says _delete_=True'
        )
    if not isinstance(policy, AllocationPolicy):
        raise ValueError(
            f'{option} must be an AllocationPolicy of mmseg_arta.models or its config, '
            f'found {type(policy).__name__}'
        )
    return policy


@MODELS.register_module()
class TrainTestAllocation(AllocationPolicy):
    """One policy in training, another one at inference (DUPS table 4).

    Configs may leave the type out: ``allocation=dict(train=dict(...), test=dict(...))``.

    Args:
        train: policy, or its config, in training mode.
        test: the same at inference.
    """

    def __init__(
        self,
        train: Mapping[str, Any] | AllocationPolicy,
        test: Mapping[str, Any] | AllocationPolicy,
    ) -> None:
        self.train = build_policy(train, 'TrainTestAllocation.train')
        self.test = build_policy(test, 'TrainTestAllocation.test')
        self.parts = (self.train, self.test)
        self.uses_scores = any(part.uses_scores for part in self.parts)

    def reconsiders(self, training: bool) -> bool:
        """What the policy of the mode says."""
        return (self.train if training else self.test).reconsiders(training)

    def host_counts(
        self, candidates: Candidates, round_index: int, training: bool
    ) -> tuple[int, ...] | None:
        """What the policy of the mode says."""
        policy = self.train if training else self.test
        return policy.host_counts(candidates, round_index, training)

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        policy = self.train if training else self.test
        return policy(candidates, round_index, training)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(train={self.train}, test={self.test})'


@MODELS.register_module()
class ReconsideringAllocation(AllocationPolicy):
    """Later rounds also decide about coarser tokens that earlier rounds left.

    In the papers only the finest tokens are scored in a round, so a region that was missed
    once is lost: DUPS names that as its limitation (section 7). Here a coarser token without
    children is scored again in every later round, after it has attended to its surroundings;
    if it is chosen then, its four children have half its size. No parameters are added, so a
    model that was trained without can be run with it.

    Args:
        policy: who decides, about the candidates of all levels together; thresholds are
            those of a candidate's own level. Or its config.
    """

    def __init__(self, policy: Mapping[str, Any] | AllocationPolicy) -> None:
        self.policy = build_policy(policy, 'ReconsideringAllocation.policy')
        self.parts = (self.policy,)
        self.uses_scores = self.policy.uses_scores

    def reconsiders(self, training: bool) -> bool:
        """Yes."""
        return True

    def host_counts(
        self, candidates: Candidates, round_index: int, training: bool
    ) -> tuple[int, ...] | None:
        """What the inner policy says, of the candidates of all levels together."""
        return self.policy.host_counts(candidates, round_index, training)

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        return self.policy(candidates, round_index, training)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(policy={self.policy})'
