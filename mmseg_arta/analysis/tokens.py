"""What token reduction does to images: superpatches per size, halted tokens, cost per layer.

:func:`analyze` gathers, :func:`merging_table`, :func:`halting_table` and :func:`render` are STEP's
tables 2 and 7, :func:`layer_costs` its figures 9 and 10.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..models.token_reduction import ReducedTokens, ThresholdMerging
from .flops.counter import OperatorCounter

#: Called with the number of the image, the backbone's input and its tokens.
Picture = Callable[[int, Tensor, ReducedTokens], None]

# The modules that count as one layer each.
_LAYER = re.compile(r'(backbone\.(layers\.\d+|halting\.heads\.\d+|policy_net)|decode_head)(\.|$)')


@dataclass(frozen=True)
class TokenUse:
    """Tokens of one image, or of one window of it in slide inference.

    Attributes:
        patches: patches of the image before anything merges.
        superpatches: side in patches to the number of tokens of that size.
        halted: tokens that stop at each halting point.
    """

    patches: int
    superpatches: dict[int, int]
    halted: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens after merging."""
        return sum(self.superpatches.values())

    @classmethod
    def of(cls, tokens: ReducedTokens) -> tuple[TokenUse, ...]:
        """Of every image of a batch."""
        layout = tokens.layout
        return tuple(
            cls(
                layout.grid[0] * layout.grid[1],
                dict(zip(layout.group_sizes, layout.counts[number], strict=True)),
                tuple(halt.lengths[number] - halt.kept[number] for halt in tokens.halts),
            )
            for number in range(layout.batch_size)
        )


class TokenWatch:
    """Keeps what a backbone is given and returns.

    Attributes:
        seen: pairs of input images ``(B, 3, H, W)`` and their tokens, in order.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, ReducedTokens]] = []

    @contextmanager
    def on(self, model: BaseModel) -> Generator[TokenWatch]:
        """Within this context the backbone of a segmentor is watched.

        Raises:
            TypeError: if it returns something else than ``ReducedTokens``.
        """
        handle = model.backbone.register_forward_hook(self._keep)
        try:
            yield self
        finally:
            handle.remove()

    def _keep(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, ReducedTokens):
            raise TypeError(
                f'token analysis needs a StepViT that hands out tokens, {type(module).__name__} '
                f'returned {type(output).__name__}'
            )
        self.seen.append((args[0], output))

    def take(self) -> list[tuple[Tensor, ReducedTokens]]:
        """What was seen since the last call."""
        taken, self.seen = self.seen, []
        return taken


@dataclass(frozen=True)
class Analysis:
    """Outcome of :func:`analyze`.

    Attributes:
        uses: tokens of every image; of every window in slide inference.
        gmacs: 10^9 multiply-accumulates of every image as executed, post-processing included.
        metrics: of the evaluator, if one was given.
    """

    uses: tuple[TokenUse, ...]
    gmacs: tuple[float, ...]
    metrics: dict[str, float]


@torch.no_grad()
def analyze(
    model: BaseModel,
    samples: Iterable[Mapping[str, Any]],
    evaluator: Any | None = None,
    picture: Picture | None = None,
) -> Analysis:
    """Test images one by one, counting tokens and operations.

    Args:
        model: a segmentor in eval mode with a :class:`~mmseg_arta.models.StepViT`.
        samples: of a test data set, in its order.
        evaluator: of mmengine; judges the predictions.
        picture: draws.

    Raises:
        ValueError: if there are no samples.
    """
    uses: list[TokenUse] = []
    gmacs = []
    with TokenWatch().on(model) as watch:
        for number, sample in enumerate(samples):
            batch = pseudo_collate([sample])
            with OperatorCounter(model) as counter:
                predictions = model.test_step(batch)
            gmacs.append(sum(counter.operators.values()) / 1e9)
            for image, tokens in watch.take():
                uses.extend(TokenUse.of(tokens))
                if picture is not None:
                    picture(number, image, tokens)
            if evaluator is not None:
                evaluator.process(data_samples=predictions, data_batch=batch)
    if not gmacs:
        raise ValueError('there are no images to analyse')
    metrics = {} if evaluator is None else evaluator.evaluate(len(gmacs))
    return Analysis(tuple(uses), tuple(gmacs), dict(metrics))


def set_thresholds(model: BaseModel, thresholds: Mapping[int, float]) -> None:
    """Let a dCTS model merge groups of these sizes by these thresholds.

    Args:
        model: a segmentor.
        thresholds: group side in patches to threshold.

    Raises:
        ValueError: if its backbone does not merge by thresholds, or its policy network scores no
            groups of such a size.
    """
    backbone = model.backbone
    if not isinstance(getattr(backbone, 'merging', None), ThresholdMerging):
        raise ValueError('thresholds need a backbone with ThresholdMerging (dCTS or STEP)')
    policy = ThresholdMerging({str(size): value for size, value in thresholds.items()})
    backbone.policy_net.check_sizes(policy.group_sizes, backbone.patch_size)
    backbone.merging = policy


@dataclass(frozen=True)
class Spread:
    """Mean, largest and smallest of some numbers."""

    mean: float
    max: float
    min: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one number."""
        if not values:
            raise ValueError('there are no images to average over')
        return cls(sum(values) / len(values), max(values), min(values))


def merging_table(uses: Sequence[TokenUse]) -> dict[int, Spread]:
    """Tokens of every superpatch size, over images (STEP table 2)."""
    sizes = sorted({size for use in uses for size in use.superpatches})
    return {size: Spread.of([use.superpatches.get(size, 0) for use in uses]) for size in sizes}


def halting_table(uses: Sequence[TokenUse]) -> tuple[Spread, ...]:
    """Tokens halted at every halting point, over images (STEP table 7)."""
    points = max((len(use.halted) for use in uses), default=0)
    return tuple(Spread.of([use.halted[point] for use in uses]) for point in range(points))


def render(uses: Sequence[TokenUse], gmacs: Sequence[float], after: Sequence[int] = ()) -> str:
    """Both tables, the reduction of tokens and the cost, as text.

    Args:
        uses: of every image or window.
        gmacs: multiply-accumulates of every test image, in units of 10^9.
        after: blocks before every halting point.
    """
    columns = {f'{size}x{size}': row for size, row in merging_table(uses).items()}
    columns['tokens'] = Spread.of([use.tokens for use in uses])
    columns['patches/token'] = Spread.of([use.patches / max(use.tokens, 1) for use in uses])
    for number, row in enumerate(halting_table(uses)):
        name = f'block {after[number]}' if number < len(after) else f'point {number + 1}'
        columns[f'halted after {name}'] = row
    columns['GMAC per image'] = Spread.of(gmacs)
    width = max(map(len, columns)) + 2
    lines = [f'{"":{width}}{"mean":>10}{"max":>10}{"min":>10}']
    for name, row in columns.items():
        lines.append(f'{name:{width}}{row.mean:10.1f}{row.max:10.1f}{row.min:10.1f}')
    return '\n'.join(lines)


@dataclass(frozen=True)
class LayerCost:
    """A layer's share of a forward pass.

    Attributes:
        name: dotted name of the module; 'rest' for what belongs to none.
        gmacs: 10^9 multiply-accumulates.
        ms: milliseconds, the fastest of the repetitions; 0 for what no module runs as a whole.
    """

    name: str
    gmacs: float
    ms: float


def layer_costs(model: BaseModel, run: Callable[[], Any], repeat: int = 3) -> list[LayerCost]:
    """Cost of all layers in running order.

    Args:
        model: a segmentor.
        run: a forward pass of it on one image.
        repeat: passes that are timed.
    """
    with OperatorCounter(model) as counter:
        run()
    macs: Counter[str] = Counter()
    for caller, count in counter.operators.items():
        layer = _LAYER.match(caller.path)
        macs[layer.group(1) if layer else 'rest'] += count
    times = [_timed(model, run) for _ in range(repeat)]
    order = dict.fromkeys([*(name for name in times[0] if name in macs), *macs])
    order.pop('rest', None)
    return [
        LayerCost(name, macs[name] / 1e9, min(spent.get(name, 0.0) for spent in times))
        for name in [*order, 'rest']
    ]


def _timed(model: BaseModel, run: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds inside every layer's forward, in the order in which they end."""
    spent: dict[str, float] = {}
    started: dict[str, float] = {}
    device = next(model.parameters()).device

    def now() -> float:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return 1000 * time.perf_counter()

    def begin(name: str) -> Callable[..., None]:
        return lambda *_: started.__setitem__(name, now())

    def end(name: str) -> Callable[..., None]:
        return lambda *_: spent.__setitem__(name, spent.get(name, 0.0) + now() - started[name])

    handles = []
    for name, module in model.named_modules():
        match = _LAYER.fullmatch(name)
        if match:
            handles.append(module.register_forward_pre_hook(begin(name)))
            handles.append(module.register_forward_hook(end(name)))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return spent
