"""Selection by ground truth in training: an ablation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ....option_checks import check_number
from .base import AllocationPolicy, Candidates, check_shares
from .combined import build_policy


@MODELS.register_module()
class OracleAllocation(AllocationPolicy):
    """True boundary shares in place of predicted scores, in some training batches (ARTA 4.3.3).

    A batch is drawn once, for all of its rounds and images; in distributed training every
    process draws for its own part. Scores are predicted and trained all the same, and at
    inference they alone decide (DUPS 5). Ground truth comes from ``OracleEncoderDecoder``.

    Args:
        rate: share of training batches.
        policy: who decides by the scores or shares, or its config; ``ThresholdAllocation``
            by default.
    """

    def __init__(
        self, rate: float, policy: Mapping[str, Any] | AllocationPolicy | None = None
    ) -> None:
        check_number(self, rate=rate)
        self.rate = float(rate)
        check_shares('OracleAllocation.rate', [self.rate])
        policy = dict(type='ThresholdAllocation') if policy is None else policy
        self.policy = build_policy(policy, 'OracleAllocation.policy')
        self.parts = (self.policy,)
        self._drawn = False

    def reconsiders(self, training: bool) -> bool:
        """What the inner policy says."""
        return self.policy.reconsiders(training)

    def host_counts(
        self, candidates: Candidates, round_index: int, training: bool
    ) -> tuple[int, ...] | None:
        """What the inner policy says: shares are as many as scores."""
        return self.policy.host_counts(candidates, round_index, training)

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        if training and round_index == 0:
            # On the CPU, where the host need not wait for the number.
            self._drawn = bool(torch.rand((), device='cpu') < self.rate)
        if training and self._drawn:
            if candidates.truth is None:
                raise ValueError(
                    'OracleAllocation needs ground truth in training: the backbone was called '
                    "without boundary_scores. Use the segmentor type='OracleEncoderDecoder'"
                )
            candidates = replace(candidates, scores=candidates.truth)
        return self.policy(candidates, round_index, training)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(rate={self.rate}, policy={self.policy})'
