"""Every op names the tensor that does not fit, whatever back end would run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mmseg_arta import ops
from tests.helpers import mixed_places, some_tokens
from tests.ops import (
    test_class_scores,
    test_cpu_cluster_attention,
    test_cpu_neighborhood_merge,
    test_cpu_patches,
    test_cpu_point_deform_attention,
)

pytestmark = pytest.mark.usefixtures('cpu_kernels')

Call = tuple[Callable[..., Any], dict[str, Tensor]]


def cluster_attention() -> Call:
    tensors, hood, clamp = test_cpu_cluster_attention.make((9, 4), 2, 8)
    given = dict(zip(test_cpu_cluster_attention.NAMES, tensors, strict=True))
    return lambda **t: ops.cluster_attention(**t, neighborhood=hood, blank_clamp=clamp), given


def point_deform_attention() -> Call:
    sizes = test_cpu_point_deform_attention.CASES['few heads']
    (value, location, weight, power), places = test_cpu_point_deform_attention.make(*sizes)
    given = dict(zip(('centers', 'nearest', 'batch'), places, strict=True))
    given |= dict(value=value, location=location, weight=weight)
    return lambda **t: ops.point_deform_attention(**t, power=power), given


def neighborhood_merge() -> Call:
    (feats, weights), rows = test_cpu_neighborhood_merge.make(13, 11, 3, 4, 8)
    return ops.neighborhood_merge, dict(feats=feats, rows=rows, weights=weights)


def gather_patches() -> Call:
    image, xy, batch, size = test_cpu_patches.make(2, 3, 3, 5, 8, 11)
    return lambda **t: ops.gather_patches(**t, patch_size=size), dict(
        image=image, xy=xy, batch=batch
    )


def balanced_clusters() -> Call:
    given = dict(zip(('xy', 'batch', 'counts'), mixed_places((9, 4), (8, 8)), strict=True))
    return lambda **t: ops.balanced_clusters(**t, canvas=(8, 8)), given


def nearest_clusters() -> Call:
    xy, batch, counts = mixed_places((9, 4), (8, 8))
    order, start = ops.balanced_clusters(xy, batch, counts, (8, 8))
    given = dict(xy=xy[order], start=start)
    return lambda **t: ops.nearest_clusters(**t, lengths=(9, 4)), given


def nearest_tokens() -> Call:
    level = some_tokens((9, 4), (8, 8), 4)
    return lambda places: ops.nearest_tokens(places, (9, 4), level, 2), dict(places=level.centers())


def class_scores() -> Call:
    probs, logits, cell, size = test_class_scores.make(*test_class_scores.CASES['cut'])
    given = dict(class_probs=probs, mask_logits=logits)
    return lambda **t: ops.class_scores(**t, cell=cell, size=size), given


DOORS = (
    *(cluster_attention, point_deform_attention, neighborhood_merge, gather_patches),
    *(balanced_clusters, nearest_clusters, nearest_tokens, class_scores),
)

CHANGES = {
    'shape': lambda tensor: tensor[:, None],
    'device': lambda tensor: tensor.to('meta'),
    'type': lambda tensor: tensor.to(torch.complex64),
}


# All tensors of all doors; but pixels of any type are copied.
CASES = [
    (door, name, change)
    for door in DOORS
    for name in door()[1]
    for change in CHANGES
    if (name, change) != ('image', 'type')
]


@pytest.mark.parametrize(('door', 'name', 'change'), CASES)
def test_what_does_not_fit_is_named(door, name, change):
    function, given = door()
    function(**given)
    with pytest.raises(ValueError, match=rf'\b{name}\b'):
        function(**given | {name: CHANGES[change](given[name])})
