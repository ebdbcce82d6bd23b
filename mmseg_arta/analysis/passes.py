"""Forward passes of a segmentor's backbone, with what its tokens were chosen by."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..engine.token_view import ScoreMap, TokenView, point_cells, view_of
from ..engine.windows import Tokens, Window, windows_of
from ..models.backbones.aff_downsampling import AdaptiveDownsample
from ..models.token_reduction import ReducedTokens
from ..structures import MixedTokens, Neighborhood, TokenSet
from .flops.count import inference_mode


@dataclass(frozen=True)
class Merge:
    """What AutoFocusFormer did between two stages (AFF 3.3).

    Attributes:
        tokens: of the stage before.
        importance: ``(T,)`` their scores in [0, 1].
        neighborhood: of these tokens.
        kept: tokens of the stage after, each merged from the neighbourhood of its place.
    """

    tokens: TokenSet
    importance: Tensor
    neighborhood: Neighborhood
    kept: TokenSet

    def places(self, index: int) -> np.ndarray:
        """``(N, 2)`` where an image's tokens are, in units of 4 px."""
        return _rows(self.tokens, self.tokens.xy, index)

    def scores(self, index: int) -> np.ndarray:
        """``(N,)`` importance of an image's tokens."""
        return _rows(self.tokens, self.importance.float(), index)

    def centers(self, index: int) -> np.ndarray:
        """``(K,)`` which of an image's tokens were kept."""
        row_of = {tuple(place): row for row, place in enumerate(self.places(index).tolist())}
        kept = _rows(self.kept, self.kept.xy, index).tolist()
        return np.array([row_of[tuple(place)] for place in kept], dtype=np.int64)

    def members(self, index: int, center: int) -> np.ndarray:
        """Which of an image's tokens were merged into one that was kept, itself among them."""
        first = int(self.tokens.offsets[index])
        rows, valid = self.neighborhood.members
        row = int(self.neighborhood.inverse[first + center])
        clusters = self.neighborhood.neighbors[row]
        clusters = clusters[clusters >= 0]
        found = rows[clusters][valid[clusters]]
        return (self.neighborhood.order[found] - first).cpu().numpy()


@dataclass(frozen=True)
class Pass:
    """A forward pass of a backbone.

    Attributes:
        image: ``(B, 3, H, W)`` its input.
        tokens: what it returned; None if that was dense maps.
        merges: between AutoFocusFormer's stages, fine to coarse.
        groups: by side in patches, ``(B, rows, columns)`` P(one class) of groups of patches.
    """

    image: Tensor
    tokens: Tokens | None
    merges: tuple[Merge, ...] = ()
    groups: dict[int, Tensor] = field(default_factory=dict)

    def view(self, index: int = 0) -> TokenView:
        """What there is to see of an image's tokens; of dense maps nothing."""
        if self.tokens is None:
            return TokenView()
        view = view_of(self.tokens, index)
        if isinstance(self.tokens, ReducedTokens):
            return replace(view, scores=self._group_scores(self.tokens.layout.patch_size, index))
        if self.merges:
            return replace(view, scores=self._importance(self.tokens.canvas, index))
        return view

    def _importance(self, canvas: tuple[int, int], index: int) -> tuple[ScoreMap, ...]:
        return tuple(
            ScoreMap(
                f'importance in stage {number}',
                merge.scores(index)[point_cells(merge.places(index), canvas)],
            )
            for number, merge in enumerate(self.merges, 1)
        )

    def _group_scores(self, patch: int, index: int) -> tuple[ScoreMap, ...]:
        found = []
        height, width = (-(-side // patch) * patch for side in self.image.shape[2:])
        for size, scores in sorted(self.groups.items()):
            values = np.full((height, width), np.nan, dtype=np.float32)
            big = scores[index].cpu().numpy().repeat(size * patch, 0).repeat(size * patch, 1)
            values[: big.shape[0], : big.shape[1]] = big
            found.append(ScoreMap(f'P(one class), {size}x{size} patches', values))
        return tuple(found)


class PassWatch:
    """Keeps the forward passes of a segmentor's backbone.

    Args:
        scores: keep what tokens were chosen by as well.
    """

    def __init__(self, scores: bool = False) -> None:
        self.scores = scores
        self._passes: list[Pass] = []
        self._merges: list[Merge] = []

    @contextmanager
    def on(self, model: BaseModel) -> Generator[PassWatch]:
        """Within this context the backbone of a segmentor is watched."""
        handles = [model.backbone.register_forward_hook(self._keep)]
        if self.scores:
            handles += [
                module.register_forward_hook(self._keep_merge)
                for module in model.backbone.modules()
                if isinstance(module, AdaptiveDownsample)
            ]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def take(self) -> list[Pass]:
        """The passes since the last call."""
        taken, self._passes = self._passes, []
        return taken

    def _keep(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        tokens = output if isinstance(output, (MixedTokens, ReducedTokens)) else None
        groups = {}
        if self.scores and isinstance(tokens, ReducedTokens) and tokens.layout.owner is not None:
            groups = group_scores(module, args[0])
        self._passes.append(Pass(args[0], tokens, tuple(self._merges), groups))
        self._merges = []

    def _keep_merge(self, module: AdaptiveDownsample, args: tuple[Any, ...], output: Any) -> None:
        x, tokens, neighborhood, _ = args
        with torch.no_grad():
            logits = module.importance(x.to(module.importance.weight.dtype)).squeeze(1)
        importance = neighborhood.to_tokens(logits.sigmoid())
        self._merges.append(Merge(tokens, importance, neighborhood, output))


@contextmanager
def window_by_window(model: BaseModel, mode: str) -> Generator[None]:
    """Sets the mode of inference, see :func:`~mmseg_arta.analysis.flops.count.inference_mode`.

    Every pass sees one window of an image.
    """
    with inference_mode(model, mode):
        # The stock segmentor does not look at this.
        model.test_cfg['windows_per_forward'] = 1
        yield


def group_scores(backbone: Any, image: Tensor) -> dict[int, Tensor]:
    """P(one class) of groups of patches, as the policy network of a plain transformer has it."""
    patch = backbone.patch_size
    image = F.pad(image, (0, -image.shape[3] % patch, 0, -image.shape[2] % patch))
    grid = (image.shape[2] // patch, image.shape[3] // patch)
    return backbone.policy_net.scores(image, grid, patch)


def windows_of_passes(
    passes: Sequence[Pass], samples: Sequence[Any], test_cfg: Any
) -> list[Window] | None:
    """See :func:`~mmseg_arta.engine.windows.windows_of`; None for dense maps too."""
    tokens = [one.tokens for one in passes if one.tokens is not None]
    if not tokens or len(tokens) != len(passes):
        return None
    return windows_of(tokens, samples, test_cfg)


def _rows(level: TokenSet, values: Tensor, index: int) -> np.ndarray:
    begin, end = (int(level.offsets[index + i]) for i in range(2))
    return values[begin:end].detach().cpu().numpy()
