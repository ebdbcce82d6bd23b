"""What a model's tokens cost, fitted to counted forward passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from ...models.allocation.policies import TokenCosts
from ..flops import count_operations
from ..flops.count import EvenAllocation

#: Passes that determine the costs: canvases of different sizes, and on each several allocations.
_SHAPES = ((256, 256), (256, 512), (512, 512), (512, 768))
_SHARES = ((0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1), (0.85, 0.7, 0.6), (0.3, 0.6, 0.9))


def fit_token_costs(
    model: nn.Module,
    published: bool = False,
    shapes: Sequence[tuple[int, int]] = _SHAPES,
    progress: Callable[[int, int], None] | None = None,
) -> TokenCosts:
    """Costs of a whole model's tokens in billions of multiply-accumulates ("GFLOPs" in papers).

    Args:
        model: a segmentor whose backbone has an allocation ``policy``; it is left as it was.
        published: count as the papers do, instead of what is executed.
        shapes: ``(height, width)`` of the images to count.
        progress: called with how many passes were counted, and of how many.
    """
    policy = model.backbone.policy
    counts, costs = [], []
    try:
        for shape in shapes:
            for shares in _SHARES:
                model.backbone.policy = EvenAllocation(shares)
                found = count_operations(model, shape, dry=True)
                counts.append([found.tokens[size] for size in sorted(found.tokens, reverse=True)])
                costs.append((found.macs_published if published else found.macs) / 1e9)
                if progress is not None:
                    progress(len(costs), len(shapes) * len(_SHARES))
    finally:
        model.backbone.policy = policy
    return TokenCosts.fit(counts, costs)
