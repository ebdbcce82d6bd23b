"""What tests of compiled models share: a small model, images, and a compiler that counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch._dynamo.backends.registry import lookup_backend

from mmseg_arta.models import ARTA
from mmseg_arta.structures import MixedTokens

NANO = dict(
    dims=(32, 16, 16, 8),
    allocation_depths=(1, 1, 1),
    refinement_depths=(1, 1, 1, 1),
    num_heads=(2, 2, 2, 1),
    mlp_ratio=2.0,
)
# Without the refinement stage.
SHORT = NANO | dict(refinement_depths=(1,))
IMAGES = 12
SIZE = (128, 160)


class Graphs:
    """A compiler's back end that counts the graphs it is given, and the calls in them."""

    def __init__(self, name: str = 'eager') -> None:
        self.compile = lookup_backend(name)
        self.count = 0
        self.calls: Counter[str] = Counter()

    def __call__(self, graph, inputs):
        self.count += 1
        self.calls.update(str(n.target) for n in graph.graph.nodes if n.op == 'call_function')
        return self.compile(graph, inputs)

    def of(self, part: str) -> int:
        """Calls of functions whose names hold ``part``."""
        return sum(number for name, number in self.calls.items() if part in name)


def breaks() -> int:
    return sum(torch._dynamo.utils.counters['graph_break'].values())


def different_images() -> list[torch.Tensor]:
    return [torch.randn(1, 3, *SIZE) * (1 + i) for i in range(IMAGES)]


def halved_by_scores(
    images: list[torch.Tensor],
    arch: dict[str, Any] = NANO,
    policy: str = 'ThresholdAllocation',
    **options: Any,
) -> ARTA:
    """A model whose thresholds select half of all candidates, so that images differ."""
    torch.manual_seed(0)
    allocation = dict(type=policy, thresholds=(0.5, 0.5, 0.5), **options)
    model = ARTA(arch, allocation=allocation).eval()
    with torch.no_grad():
        for index in range(3):
            scores = model(torch.cat(images)).rounds[index].scores
            thresholds = list(model.policy.thresholds)
            thresholds[index] = float(scores.median())
            model.policy.thresholds = tuple(thresholds)
    return model


def assert_same(found: MixedTokens, expected: MixedTokens) -> None:
    assert found.canvas == expected.canvas and found.image_size == expected.image_size
    for mine, truth in zip(found.levels, expected.levels, strict=True):
        assert mine.lengths == truth.lengths and mine.grid == truth.grid
        assert torch.equal(mine.xy, truth.xy) and torch.equal(mine.offsets, truth.offsets)
        torch.testing.assert_close(mine.feats, truth.feats)
    for mine, truth in zip(found.rounds, expected.rounds, strict=True):
        assert mine.selected_lengths == truth.selected_lengths
        assert torch.equal(mine.selected, truth.selected)
        torch.testing.assert_close(mine.scores, truth.scores)


def lengths(tokens: MixedTokens) -> tuple[tuple[int, ...], ...]:
    return tuple(level.lengths for level in tokens.levels)
