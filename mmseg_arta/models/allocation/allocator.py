"""Token allocation block: score the finest tokens, choose, and make finer ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...ops import at_patches
from ...structures import (
    FINEST_PATCH,
    AllocationRound,
    TokenSet,
    host_sizes,
    without_autocast,
)
from .bound import TokenBound
from .children import SubPatchEmbed, split_selected
from .host_counts import counts_on_host
from .policies import AllocationPolicy, Candidates
from .scores import BoundaryScorePredictor
from .segments import segment_ends, segment_softmax


@dataclass
class Allocation:
    """What the allocation stage leaves to the refinement stage.

    Attributes:
        levels_after: tokens after the pre-allocation round and after every allocation round,
            coarse to fine: all that were present then.
        records: what the rounds decided about the finest tokens.
        late_records: and about coarser ones, if they do.
    """

    levels_after: list[list[TokenSet]]
    records: list[AllocationRound] = field(default_factory=list)
    late_records: list[AllocationRound] = field(default_factory=list)


class TokenAllocator(nn.Module):
    """One allocation round (ARTA 3.3, DUPS 3.2).

    Args:
        dim: channels of the candidate tokens.
        patch_size: side of the new tokens' patches in pixels.
        straight_through: multiply candidates by a factor that is exactly 1 and whose
            gradient is that of a softmax over the image's scores (of its complement
            for tokens that are not selected), so that the segmentation loss reaches
            the scores, as the published code does.
        use_image: initialise new tokens with an image feature.
        use_parent: initialise new tokens with a copy of their parent.
        image_hidden: see :class:`SubPatchEmbed`.
        scored: predict scores. Without, all are 0, nothing reaches them, and there is no
            predictor among the parameters: for policies that do not look at scores.
        in_channels: channels of the images.
    """

    def __init__(
        self,
        dim: int,
        patch_size: int,
        straight_through: bool = True,
        use_image: bool = True,
        use_parent: bool = True,
        image_hidden: str = 'dim',
        scored: bool = True,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.straight_through = straight_through and scored
        self.score: BoundaryScorePredictor | None = BoundaryScorePredictor(dim) if scored else None
        self.embed = SubPatchEmbed(
            dim, patch_size, use_image, use_parent, image_hidden, in_channels
        )

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the parameters."""
        return self.embed.scale.dtype

    def predict(self, feats: Tensor) -> Tensor:
        """Boundary scores ``(N,)`` float32, outside autocast so that thresholds mean the same."""
        if self.score is None:
            return feats.new_zeros(feats.shape[0], dtype=torch.float32)
        with without_autocast(feats):
            return self.score(feats.to(next(self.score.parameters()).dtype)).to(torch.float32)

    def forward(
        self,
        tokens: TokenSet,
        image: Tensor,
        policy: AllocationPolicy,
        round_index: int,
        present: tuple[tuple[int, ...], ...] = (),
        truth: Tensor | None = None,
        bound: TokenBound | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> tuple[TokenSet, TokenSet, AllocationRound]:
        """Allocate finer tokens.

        Args:
            tokens: candidates, the finest tokens so far.
            image: ``(B, in_channels, H, W)`` normalised pixels on the canvas.
            policy: who chooses.
            round_index: 0 for the first round.
            present: tokens ``[level][image]`` so far, for policies that count them.
            truth: ``(B, rows, columns)`` true boundary shares of all patches of the
                candidates' size, for policies that select by them.
            bound: on the tokens of an image, whatever the policy selects.
            image_size: ``(height, width)`` in pixels of what the canvas shows; None for all.

        Returns:
            The candidates (unchanged in value), the new tokens with as many channels,
            and the record of the round.
        """
        batch = tokens.batch_index()
        scores = self.predict(tokens.feats)
        candidates = Candidates(
            shown_scores(scores.detach(), tokens.xy, host_sizes(image)[2:], image_size),
            batch,
            tokens.offsets,
            tokens.lengths,
            present=present,
            truth=None if truth is None else shares_of(tokens, batch, truth),
        )
        wanted = policy(candidates, round_index, self.training)
        selected, bounded = self.within(bound, wanted, scores, batch, tokens.offsets)
        ends = segment_ends(selected, tokens.offsets)
        known = policy.host_counts(candidates, round_index, self.training)
        chosen = counts_on_host(ends.diff(), bounded, known)

        parents = tokens.feats
        # The factors are 1: without a gradient there is nothing to multiply for.
        if self.straight_through and scores.requires_grad:
            factors = gate(scores, selected, batch, tokens.batch_size)
            parents = parents * factors.to(self.dtype)[:, None]
        parents = tokens.with_feats(parents)
        children = self.split(parents, image, selected, ends, chosen)
        record = AllocationRound(
            scores,
            selected,
            tokens.xy,
            tokens.offsets,
            tokens.lengths,
            chosen,
            tokens.patch_size,
            tokens.grid,
        )
        return parents, children, record

    def within(
        self,
        bound: TokenBound | None,
        wanted: Tensor,
        scores: Tensor,
        batch: Tensor,
        offsets: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, int] | None]:
        """What a bound leaves of a selection, and what :func:`counts_on_host` tells of it.

        Args:
            bound: None for none.
            wanted: ``(N,)`` bool, what the policy selects.
            scores: ``(N,)`` that this allocator predicts.
            batch, offsets: image of each candidate, and their row offsets.
        """
        if bound is None:
            return wanted, None
        best = None if self.score is None else scores
        kept = bound.keep(wanted, best, batch, offsets)
        return kept, (bound.totals(wanted, offsets), bound.most)

    def split(
        self,
        parents: TokenSet,
        image: Tensor,
        selected: Tensor,
        ends: Tensor,
        chosen: tuple[int, ...],
    ) -> TokenSet:
        """Four new tokens for every selected one.

        Args:
            parents: candidates.
            image: ``(B, in_channels, H, W)`` normalised pixels on the canvas.
            selected: ``(N,)`` bool.
            ends: ``(B + 1,)`` int64 row offsets of the selected ones.
            chosen: how many they are per image, on the host.
        """
        height, width = host_sizes(image)[2:]
        grid = (height // self.patch_size, width // self.patch_size)
        xy, image_of, parent, corner = split_selected(
            selected,
            sum(chosen),
            parents.xy,
            parents.batch_index(),
            self.embed.corners,
            width // FINEST_PATCH,
        )
        feats = self.embed(parents.feats, image, xy, image_of, parent, corner)
        offsets = (ends * 4).to(torch.int32)
        lengths = tuple(4 * count for count in chosen)
        return TokenSet(feats, xy, offsets, lengths, self.patch_size, grid)


def gate(scores: Tensor, selected: Tensor, batch: Tensor, batch_size: int) -> Tensor:
    """``(N,)`` factors of exactly 1 whose gradient is that of a softmax per image."""
    soft = segment_softmax(scores, batch, batch_size)
    soft = torch.where(selected, soft, 1.0 - soft)
    return 1.0 + (soft - soft.detach())


def shown_scores(
    scores: Tensor, xy: Tensor, canvas: Sequence[int], image_size: Sequence[int] | None
) -> Tensor:
    """Scores ``(N,)`` for a policy: patches that show nothing of the image come last.

    Args:
        scores: of the candidates.
        xy: ``(N, 2)`` their coordinates in units of 4 px.
        canvas: ``(height, width)`` in pixels after padding.
        image_size: the same before; None for no padding.
    """
    if image_size is None:
        return scores
    # A compiled graph serves all sizes: it must not ask whether there is any padding.
    if not torch.compiler.is_dynamo_compiling() and tuple(image_size) == tuple(canvas):
        return scores
    height, width = (-(-side // FINEST_PATCH) for side in image_size)
    beyond = (xy[:, 0] >= width) | (xy[:, 1] >= height)
    return scores.masked_fill(beyond, -torch.inf)


def shares_of(tokens: TokenSet, batch: Tensor, truth: Tensor) -> Tensor:
    """True boundary shares ``(N,)`` of tokens from a map ``(B, rows, columns)`` of patches."""
    if truth.ndim != 3 or truth.shape[0] != tokens.batch_size:
        raise ValueError(
            f'boundary_scores must be maps ({tokens.batch_size}, rows, columns) of patches, '
            f'found {tuple(truth.shape)}'
        )
    return at_patches(truth.to(torch.float32), tokens.xy, batch, tokens.patch_size)
