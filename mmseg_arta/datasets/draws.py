"""Augmentation that follows from what is drawn, not from what was drawn before.

MMEngine resumes a run of iterations at the right images, but the generators of the workers start
anew: a resumed run crops and flips the images otherwise than the run that was interrupted. Here
every drawn sample has its own random numbers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import InfiniteSampler
from mmseg.registry import DATA_SAMPLERS, TRANSFORMS

# Part of the seed, so that nothing else draws the same numbers.
_DRAW = 4


class Draw(int):
    """The index of a sample, which knows the seed of its sampler and the how-manieth draw it is.

    Attributes:
        key: seed and number of the draw, over all processes; None where it is not known.
    """

    key: tuple[int, int] | None

    def __new__(cls, index: int, key: tuple[int, int] | None = None) -> Draw:
        draw = super().__new__(cls, index)
        draw.key = key
        return draw


@DATA_SAMPLERS.register_module()
class NumberedInfiniteSampler(InfiniteSampler):
    """The stock infinite sampler, whose indices are :class:`Draw`.

    They reach a pipeline as ``sample_idx`` where nothing computes with them in between, as
    ``ConcatDataset`` and ``RepeatDataset`` do.
    """

    def _indices_of_rank(self) -> Iterator[int]:
        numbered = enumerate(self._infinite_indices())
        for number, index in islice(numbered, self.rank, None, self.world_size):
            yield Draw(index, (self.seed, number))


@TRANSFORMS.register_module()
class SeedByDraw(BaseTransform):
    """Seed Python, NumPy and PyTorch by the draw of the sample; stands before what is random.

    Behind another sampler than :class:`NumberedInfiniteSampler` it does nothing.

    Required keys: none; ``sample_idx`` is looked at. Changes nothing.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        key = getattr(results.get('sample_idx'), 'key', None)
        if key is not None:
            seed_all(_DRAW, *key)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


def seed_all(*numbers: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators, of all devices, from several numbers."""
    for_python, for_numpy, for_torch = np.random.SeedSequence(numbers).generate_state(3)
    random.seed(int(for_python))
    np.random.seed(int(for_numpy))
    torch.manual_seed(int(for_torch))
