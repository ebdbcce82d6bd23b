"""How many tokens went where, logged with the losses and the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine import dist
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import nn

from ...models.decode_heads import BoundaryScoreHead
from ...ops import boundary_map
from ...option_checks import check_whole
from ...structures import AllocationRound, MixedTokens
from ..coverage import (
    covered_share,
    edges_in_window,
    ignore_index_of,
    labels_of_input,
    random_tokens_like,
    token_cover,
)
from ..windows import Window
from .token_recorder import TokenRecorderHook, backbone_of


@HOOKS.register_module()
class TokenStatisticsHook(TokenRecorderHook):
    """Log tokens per allocation round and boundary scores; in validation also coverage.

    Training, with the losses: ``tokens_round<r>``, new tokens per image, and
    ``score_round<r>``, mean boundary score; with ``ReconsideringAllocation`` also
    ``..._round<r>_patch<px>`` of coarser tokens that round ``r`` decides about again.
    Validation and test: the same counts,
    ``boundary_covered``, the share of true class-boundary pixels that lie under a token
    of the finest level, and ``boundary_covered_random``, that share for as many finest
    tokens whose parents are drawn at random (both in percent). In slide inference all
    counts are per window, however many windows a forward pass takes. With test-time
    augmentation nothing is recorded, and the log says why once.

    Before training it also refuses a model whose allocator could never learn.

    Args:
        interval: training iterations between two records.
        seed: of the random tokens that coverage is compared with.
    """

    def __init__(self, interval: int = 10, seed: int = 0) -> None:
        check_whole(self, interval=interval)
        check_whole(self, 0, seed=seed)
        super().__init__()
        self.interval = interval
        self.seed = seed
        self._sums: dict[str, float] = {}
        self._weights: dict[str, int] = {}
        self._seen = 0

    def before_train(self, runner: Runner) -> None:
        """Check that something teaches the allocator."""
        check_allocator_supervision(runner.model)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Forget forward passes that belong to no training step."""
        self.take()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Record one training step."""
        taken = self.take()
        if not taken or not self.every_n_train_iters(runner, self.interval):
            return
        hub = MessageHub.get_current_instance()
        for name, value in round_statistics(taken[-1]).items():
            hub.update_scalar(f'train/{name}', value)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Record one validation batch."""
        self._after_eval_iter(runner, outputs)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Record one test batch."""
        self._after_eval_iter(runner, outputs)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log a validation epoch."""
        self._after_eval_epoch(runner, 'val')

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log a test epoch."""
        self._after_eval_epoch(runner, 'test')

    def _after_eval_iter(self, runner: Runner, samples: Sequence[Any] | None) -> None:
        windows = self.take_windows(runner, samples or [])
        for tokens, _, _ in windows or []:
            for name, value in round_statistics(tokens).items():
                self._add(name, value, tokens.batch_size)
        if windows and samples and all('gt_sem_seg' in sample for sample in samples):
            self._add_coverage(windows, samples, ignore_index_of(runner.model))

    def _add_coverage(
        self, windows: Sequence[Window], samples: Sequence[Any], ignored: int
    ) -> None:
        edges = boundary_map(labels_of_input(samples, ignored), ignored)
        generator = torch.Generator().manual_seed(self.seed + self._seen)
        for window in windows:
            part, tokens = edges_in_window(edges, window), window.tokens
            covers = {
                'boundary_covered': token_cover(tokens.levels[-1], tokens.canvas),
                'boundary_covered_random': random_tokens_like(tokens, generator),
            }
            # Weighted by boundary pixels: a share of all of them, not a mean of shares.
            pixels = int(part.sum())
            for name, cover in covers.items():
                self._add(name, 100.0 * covered_share(part, cover.to(part.device)), pixels)
        self._seen += len(samples)

    def _add(self, name: str, value: float, weight: int) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value * weight
        self._weights[name] = self._weights.get(name, 0) + weight

    def _after_eval_epoch(self, runner: Runner, mode: str) -> None:
        hub = MessageHub.get_current_instance()
        lines = []
        # Names differ between processes: a round without candidates has no score.
        parts = dist.all_gather_object((self._sums, self._weights))
        for name in sorted({name for sums, _ in parts for name in sums}):
            weight = sum(weights.get(name, 0) for _, weights in parts)
            if weight == 0:
                continue
            value = sum(sums.get(name, 0.0) for sums, _ in parts) / weight
            hub.update_scalar(f'{mode}/{name}', value)
            lines.append(f'{name}: {value:.4g}')
        if lines:
            runner.logger.info('Tokens: ' + '  '.join(lines))
        self._sums, self._weights, self._seen = {}, {}, 0


def round_statistics(tokens: MixedTokens) -> dict[str, float]:
    """New tokens per image and mean score of every allocation round, counted from 1."""
    values: dict[str, float] = {}
    for name, record in zip(round_names(tokens.rounds), tokens.rounds, strict=True):
        values[f'tokens_{name}'] = 4.0 * sum(record.selected_lengths) / tokens.batch_size
        if len(record.scores):
            values[f'score_{name}'] = float(record.scores.detach().mean())
    return values


def round_names(rounds: Sequence[AllocationRound]) -> list[str]:
    """Of the records of :class:`~mmseg_arta.structures.MixedTokens`.

    Round ``r`` decides about one level, and with ``ReconsideringAllocation`` also about what is
    left of the coarser ones: ``round3``, then ``round2_patch32``, ``round3_patch32``,
    ``round3_patch16``.
    """
    # Of every level the finer tokens come from, the first record is its own round's.
    count = len({record.patch_size for record in rounds})
    names = [f'round{number}' for number in range(1, count + 1)]
    if late := rounds[count:]:
        numbers = [number for number in range(2, count + 1) for _ in range(number - 1)]
        for number, record in zip(numbers, late, strict=True):
            names.append(f'round{number}_patch{record.patch_size}')
    return names


def check_allocator_supervision(model: nn.Module) -> None:
    """Refuse a model whose boundary scores would get no gradient.

    Raises:
        ValueError: if the backbone's straight-through gradient is off and no auxiliary
            head is a :class:`BoundaryScoreHead`.
    """
    backbone = backbone_of(model)
    if getattr(backbone, 'straight_through', True):
        return
    if not any(isinstance(module, BoundaryScoreHead) for module in model.modules()):
        raise ValueError(
            'the allocator would never learn: backbone.straight_through is False and no '
            'auxiliary_head is a BoundaryScoreHead. Add auxiliary_head=dict(type='
            "'BoundaryScoreHead') or set straight_through=True"
        )
