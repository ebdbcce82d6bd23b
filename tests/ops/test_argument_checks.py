"""Every op names the tensor that does not fit, whatever back end would run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mmseg_arta import ops
from tests.helpers import mixed_places, some_tokens
from tests.ops import inputs

pytestmark = pytest.mark.usefixtures('cpu_kernels')

Call = tuple[Callable[..., Any], dict[str, Tensor]]


def cluster_attention() -> Call:
    tensors, hood, clamp = inputs.attention_inputs((9, 4), 2, 8)
    given = dict(zip(inputs.ATTENTION_INPUTS, tensors, strict=True))
    return lambda **t: ops.cluster_attention(**t, neighborhood=hood, blank_clamp=clamp), given


def point_deform_attention() -> Call:
    sizes = (131, 40, 1, 2, 8, 2, 3, 4, 1.7)
    (value, location, weight, power), places = inputs.deform_inputs(*sizes)
    given = dict(zip(('centers', 'nearest', 'batch'), places, strict=True))
    given |= dict(value=value, location=location, weight=weight)
    return lambda **t: ops.point_deform_attention(**t, power=power), given


def neighborhood_merge() -> Call:
    (feats, weights), rows = inputs.merge_inputs(13, 11, 3, 4, 8)
    return ops.neighborhood_merge, dict(feats=feats, rows=rows, weights=weights)


def gather_patches() -> Call:
    image, xy, batch, size = inputs.patch_inputs(2, 3, 3, 5, 8, 11)
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
    probs, logits, cell, size = inputs.score_inputs(2, 7, 5, 5, 7, 4, 18, 25)
    given = dict(class_probs=probs, mask_logits=logits)
    return lambda **t: ops.class_scores(**t, cell=cell, size=size), given


CALLS = (
    *(cluster_attention, point_deform_attention, neighborhood_merge, gather_patches),
    *(balanced_clusters, nearest_clusters, nearest_tokens, class_scores),
)

CHANGES = {
    'shape': lambda tensor: tensor[:, None],
    'device': lambda tensor: tensor.to('meta'),
    'type': lambda tensor: tensor.to(torch.complex64),
}


# All tensors of all ops; but pixels of any type are copied.
CASES = [
    (op, name, change)
    for op in CALLS
    for name in op()[1]
    for change in CHANGES
    if (name, change) != ('image', 'type')
]


@pytest.mark.parametrize(('op', 'name', 'change'), CASES)
def test_what_does_not_fit_is_named(op, name, change):
    function, given = op()
    function(**given)
    with pytest.raises(ValueError, match=rf'\b{name}\b'):
        function(**given | {name: CHANGES[change](given[name])})
