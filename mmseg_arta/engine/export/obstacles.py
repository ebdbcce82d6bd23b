"""What keeps a model from being exported, and what to do about it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...models.allocation import (
    AllocationPolicy,
    Candidates,
    FixedRatioAllocation,
    FullAllocation,
)
from ...models.backbones import StepViT
from ...models.backbones.mixed_encoder import MixedResolutionEncoder
from ...models.token_reduction.merging import ThresholdMerging
from ...structures import batch_index, offsets_from_lengths
from .images import ExportError

_ROUNDS = 3


def fix_allocation(model: nn.Module, name: str) -> None:
    """Give a model's encoders a policy by name, with the scores deciding which tokens it takes.

    Args:
        model: any model; it keeps the policy.
        name: 'full' for all candidates; a number such as '0.3' for that share of them in every
            round, those with the highest scores; 'caps' for the largest shares of training;
            'model' for the model's own policy.

    Raises:
        ExportError: if the model has no such encoder but shall allocate in some way.
        ValueError: for another name.
    """
    if name == 'model':
        return
    encoders = [module for module in model.modules() if isinstance(module, MixedResolutionEncoder)]
    if not encoders:
        raise ExportError(
            f'--allocation {name} needs a model that allocates tokens by a policy, such as ARTA: '
            'leave it out'
        )
    for encoder in encoders:
        if name == 'full':
            policy: AllocationPolicy = FullAllocation()
        elif name == 'caps':
            caps = next((part.caps for part in encoder.policy.walk() if part.caps), None)
            policy = FixedRatioAllocation() if caps is None else FixedRatioAllocation(caps)
        else:
            policy = FixedRatioAllocation((float(name),) * _ROUNDS)
        encoder.policy = policy


def obstacle(model: nn.Module) -> str | None:
    """Why a model cannot be exported and what to set instead, in one line; None if it may be.

    A file is for one number of tokens: what depends on the image's content how many there are
    cannot be in it.
    """
    for name, module in model.named_modules():
        found = None
        if isinstance(module, MixedResolutionEncoder):
            found = _of_encoder(module)
        elif isinstance(module, StepViT):
            found = _of_transformer(module)
        if found is not None:
            return found.format(name=name or 'model')
    return None


def _of_encoder(encoder: MixedResolutionEncoder) -> str | None:
    if encoder.policy.reconsiders(False):
        return (
            'ReconsideringAllocation refines tokens of several levels, how many of each the image '
            'decides: set --allocation 0.3 (a share of the finest tokens) or full'
        )
    if not _counts_are_known(encoder.policy):
        return (
            f'{_deciding(encoder.policy)} lets the image decide how many tokens there are: set '
            '--allocation 0.3 (a share of the tokens, those with the highest scores), full or caps'
        )
    if encoder.max_tokens is not None:
        return (
            f'max_tokens={encoder.max_tokens} may cut what the policy selects: set '
            '--cfg-options model.{name}.max_tokens=None, since the policy itself fixes the tokens'
        )
    if encoder.tie_order == 'published':
        return (
            "tie_order='published' follows rows whose number the image decides: set "
            '--cfg-options model.{name}.tie_order=raster'
        )
    return None


def _of_transformer(backbone: StepViT) -> str | None:
    if backbone.halting is not None:
        return (
            'StepViT halts tokens by their confidence, how many the image decides: export a '
            'config without halting, such as SegViT or CTS'
        )
    if isinstance(backbone.merging, ThresholdMerging):
        return (
            'ThresholdMerging lets the image decide how many patches merge: export a config with '
            'TopGroupMerging (CTS), which merges a fixed share'
        )
    return None


def _counts_are_known(policy: AllocationPolicy) -> bool:
    """Whether the host knows how many tokens a policy selects at inference."""
    lengths = (4,)
    offsets = offsets_from_lengths(lengths, torch.device('cpu'))
    # No tokens so far, so that every budget suffices.
    case = Candidates(torch.zeros(4), batch_index(offsets, 4), offsets, lengths, None, ((0,),))
    rounds = range(_ROUNDS)
    return all(policy.host_counts(case, number, False) is not None for number in rounds)


def _deciding(policy: AllocationPolicy) -> str:
    """Name of the policy at fault: a part's, if the policy is made of others."""
    inner: Any = getattr(policy, 'test', None) or getattr(policy, 'policy', None)
    return type(policy).__name__ if inner is None else _deciding(inner)
