"""Every op names the tensor that does not fit, whatever back end would run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
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


def host_options() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Ops whose tensors are given already, with the numbers on the host that they take."""
    torch.manual_seed(0)
    tensors, hood, _ = inputs.attention_inputs((9, 4), 2, 8)
    attention = dict(zip(inputs.ATTENTION_INPUTS, tensors, strict=True))
    (value, location, weight, power), places = inputs.deform_inputs(131, 40, 1, 2, 8, 2, 3, 4, 1.7)
    deform = dict(zip(('centers', 'nearest', 'batch'), places, strict=True))
    deform |= dict(value=value, location=location, weight=weight, power=power)
    image, xy, batch, size = inputs.patch_inputs(2, 3, 3, 5, 8, 11)
    clusters = dict(zip(('xy', 'batch', 'counts'), mixed_places((9, 4), (8, 8)), strict=True))
    order, start = ops.balanced_clusters(**clusters, canvas=(8, 8))
    level = some_tokens((9, 4), (8, 8), 4)
    probs, logits, cell, whole = inputs.score_inputs(2, 7, 5, 5, 7, 4, 18, 25)
    lengths, grid = (9, 4), dict(canvas=(8, 8), cluster_size=8)
    near = dict(cluster_size=8, num_neighbors=6)
    labels = torch.zeros(2, 8, 8, dtype=torch.long)
    return {
        'cluster_attention': (
            partial(ops.cluster_attention, **attention, neighborhood=hood),
            dict(blank_clamp=5.0),
        ),
        'point_deform_attention': (
            partial(ops.point_deform_attention, **deform),
            dict(floor=0.01, eps=1e-6),
        ),
        'gather_patches': (
            partial(ops.gather_patches, image, xy, batch),
            dict(patch_size=size),
        ),
        'balanced_clusters': (partial(ops.balanced_clusters, **clusters), grid),
        'nearest_clusters': (
            partial(ops.nearest_clusters, clusters['xy'][order], start),
            dict(lengths=lengths, **near),
        ),
        'build_neighborhood': (
            partial(ops.build_neighborhood, **clusters),
            dict(lengths=lengths, canvas=(8, 8), **near),
        ),
        'nearest_tokens': (
            lambda place_lengths, k: ops.nearest_tokens(level.centers(), place_lengths, level, k),
            dict(place_lengths=lengths, k=2),
        ),
        'nearest_tokens_of_cells': (
            partial(ops.nearest_tokens_of_cells, level),
            dict(grid=(8, 8), k=2),
        ),
        'class_scores': (
            partial(ops.class_scores, probs, logits),
            dict(cell=cell, size=whole),
        ),
        'boundary_map': (
            partial(ops.boundary_map, labels),
            dict(ignore_index=255, padding=(0, 0)),
        ),
        'patch_share': (partial(ops.patch_share, torch.ones(2, 8, 8)), dict(patch_size=4)),
        'inverse_distance_weights': (
            partial(ops.inverse_distance_weights, torch.ones(2, 3), torch.ones(2, 3).bool(), 2.0),
            dict(floor=0.01, eps=1e-6),
        ),
    }


STRANGE = (0, -1, 0.5, math.nan, math.inf, -math.inf, 1 << 61, -(1 << 61), 'text', (), (0.5,), None)
#: Strange values that mean something.
FINE = {
    'blank_clamp': (0, 0.5, 1 << 61, math.inf, None),
    'floor': (0, 0.5, 1 << 61),
    'eps': (0, 0.5, 1 << 61),
    'grid': ((0, 8),),
    'padding': ((0, 0),),
    'ignore_index': (0, -1, 1 << 61, -(1 << 61)),
}
HOST = [(op, option) for op, (_, options) in host_options().items() for option in options]


@pytest.mark.parametrize(('op', 'option'), HOST)
def test_numbers_on_the_host_are_named(op, option):
    function, options = host_options()[op]
    function(**options)
    usual = options[option]
    tried = list(STRANGE)
    if isinstance(usual, tuple):
        tried += [(value, *usual[1:]) for value in STRANGE] + [(*usual, 1)]
    wrong = []
    for value in tried:
        if any(value is one or value == one for one in FINE.get(option, ())):
            function(**{**options, option: value})
            continue
        try:
            function(**{**options, option: value})
        except (TypeError, ValueError, IndexError) as error:
            if not re.search(rf'\b{option}\b', str(error)):
                wrong.append(f'{option}={value!r} is not named: {error!r}')
        except Exception as error:
            wrong.append(f'{option}={value!r} ends in {error!r}')
        else:
            wrong.append(f'{option}={value!r} is taken')
    assert not wrong, '\n' + '\n'.join(wrong)
