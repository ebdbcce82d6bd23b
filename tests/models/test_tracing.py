"""``torch.jit.trace``, as stock counts of operations use it: sizes stay plain numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mmseg_arta.structures import TokenSet, host_sizes
from tests.builders import FAMILIES, family_segmentor

# No multiple of a patch: whatever pads and cuts has something to do.
SIZE = (40, 61)


def flat(value: Any) -> list[Tensor]:
    """Tensors of nested lists, in order."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in flat(part)]


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@pytest.mark.parametrize('name', [*FAMILIES, 'reconsidering', 'AFF on grids, published'])
@torch.no_grad()
def test_traced_models_compute_the_same(name: str) -> None:
    torch.manual_seed(0)
    model = family_segmentor(name).eval()
    image = torch.randn(1, 3, *SIZE)
    traced = torch.jit.trace(model, image, strict=False, check_trace=False)
    # Optimising the graph for one call takes many times as long as the call.
    with torch.jit.optimized_execution(False):
        found = flat(traced(image))
    for one, other in zip(found, flat(model(image)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_sizes_are_numbers_while_traced() -> None:
    seen: list[Any] = []

    def look(maps: Tensor) -> Tensor:
        tokens = TokenSet.from_map(maps, 4)
        seen.extend((*host_sizes(maps), len(tokens), *tokens.lengths, *tokens.grid))
        return tokens.feats

    torch.jit.trace(look, torch.zeros(2, 3, 4, 5), check_trace=False)
    assert seen == [2, 3, 4, 5, 40, 20, 20, 4, 5] and all(type(size) is int for size in seen)
