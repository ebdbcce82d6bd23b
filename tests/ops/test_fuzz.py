"""Arguments that lie: a short sample of what ``make sanitize`` tries, and what it found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmseg_arta import ops
from mmseg_arta.models import ARTA, AutoFocusFormer
from mmseg_arta.ops import library
from mmseg_arta.structures import Neighborhood
from tests.helpers import mixed_places, some_tokens
from tests.ops import fuzz, inputs
from tests.processes import python_environment

pytestmark = pytest.mark.usefixtures('cpu_kernels')

REGISTERED = torch.ops.mmseg_arta
HUGE = 1 << 62


@pytest.mark.parametrize(
    ('given', 'found', 'expected'),
    [
        (1.0, [1.0, float('nan')], True),
        (1.0, [1e31, float('nan')], False),  # an overflow gives a reason
        (float('inf'), [1.0, float('nan')], False),
        (1.0, [1.0, 2.0], False),
        (1.0, [1, torch.iinfo(torch.int64).max], True),
    ],
)
def test_memory_that_nobody_has_written_is_found(given, found, expected):
    assert fuzz._unwritten(dict(x=torch.tensor([given])), torch.tensor(found)) is expected


def test_a_sample_of_lies():
    count = 60 * len(fuzz.OPS)
    done, report = fuzz.run_all(count)
    assert not report.faults and done == count
    # Every op was called truly, with lies that do no harm, and with others.
    for make in fuzz.OPS:
        assert report.answered[make.__name__, False] and report.answered[make.__name__, True]
        assert sum(n for (op, _), n in report.errors.items() if op == make.__name__) > 10


def search(**changed: Any) -> Any:
    given = dict(
        places=torch.rand(5, 2),
        centers=torch.rand(9, 2),
        place_lengths=(3, 2),
        lengths=(4, 5),
        k=2,
        backend='cpu',
    )
    return REGISTERED.nearest_tokens(**given | changed)


def public_search(**changed: Any) -> Any:
    level = some_tokens((9, 4), (8, 8), 4)
    given = dict(places=level.centers(), place_lengths=(9, 4), level=level, k=2)
    return ops.nearest_tokens(**given | changed)


def clusters(**changed: Any) -> Any:
    xy, batch, counts = mixed_places((9, 4), (8, 8))
    given = dict(xy=xy, batch=batch, counts=counts, canvas=(8, 8), cluster_size=8)
    return ops.balanced_clusters(**given | changed)


def hood() -> Neighborhood:
    return inputs.attention_inputs((29, 14), 2, 8)[1]


def near_clusters(**changed: Any) -> Any:
    own = hood()
    given = dict(xy=own.xy, start=own.start, lengths=own.lengths, cluster_size=8)
    return ops.nearest_clusters(**given | changed)


def attention(**changed: Any) -> Any:
    tensors, own, clamp = inputs.attention_inputs((29, 14), 2, 8)
    given = dict(zip(inputs.ATTENTION_INPUTS, tensors, strict=True)) | dict(
        xy=own.xy,
        start=own.start,
        neighbors=own.neighbors,
        cluster_size=8,
        blank_clamp=clamp,
        backend='cpu',
    )
    return REGISTERED.cluster_attention(**given | changed)


def attention_backward(**changed: Any) -> Any:
    tensors, own, clamp = inputs.attention_inputs((29, 14), 2, 8)
    given = dict(zip(inputs.ATTENTION_INPUTS, tensors, strict=True)) | dict(
        grad_out=tensors[0],
        out=tensors[0],
        lse=tensors[0][..., 0],
        xy=own.xy,
        start=own.start,
        neighbors=own.neighbors,
        cluster_size=8,
        blank_clamp=clamp,
        backend='cpu',
    )
    return REGISTERED.cluster_attention_backward(**given | changed)


def patches(**changed: Any) -> Any:
    image, xy, batch, size = inputs.patch_inputs(2, 3, 3, 5, 8, 11)
    given = dict(image=image, xy=xy, batch=batch, patch_size=size, backend='cpu')
    return REGISTERED.gather_patches(**given | changed)


def masks(**changed: Any) -> Any:
    given = dict(cell=4, first=0, rows=8, width=12, strips=3, backend='cpu')
    return REGISTERED.mask_probabilities(mask_logits=torch.rand(3, 2, 3), **given | changed)


def merge(**changed: Any) -> Any:
    (feats, weights), rows = inputs.merge_inputs(13, 11, 3, 4, 8)
    given = dict(feats=feats, rows=rows, weights=weights, backend='cpu')
    return REGISTERED.neighborhood_merge(**given | changed)


FALLING = torch.tensor([0, 8, 6, 24, 29, 37, 43, 43])
INFINITE = torch.full((9, 2), torch.inf)
OFF_GRID = torch.tensor([[2, 1]] * 11, dtype=torch.int32)
WRAPPING = torch.tensor([[(1 << 32), 0]] * 11)

FOUND: tuple[tuple[Callable[..., Any], dict[str, Any], str], ...] = (
    # Each of these ended the process.
    (search, dict(place_lengths=(7, -2)), 'place_lengths must not be negative'),
    (search, dict(lengths=(4, 4)), 'lengths must have a sum of 9, one for each row of centers'),
    (search, dict(place_lengths=(5,)), 'place_lengths must be those of 2 images'),
    (search, dict(k=HUGE), f'k must be at most 65536, found {HUGE}'),
    (public_search, dict(k=HUGE), f'k must be at most 65536, found {HUGE}'),
    (public_search, dict(place_lengths=(15, -2)), 'place_lengths must not be negative'),
    (search, dict(centers=INFINITE), 'centers must hold finite coordinates .* found inf at'),
    (search, dict(places=INFINITE[:5] * -1), 'places must hold finite .* found -inf at'),
    (near_clusters, dict(start=hood().start + 100), r'start\[0:5\] must hold numbers from 0 to 29'),
    (near_clusters, dict(start=hood().start - 100), r'start\[0:5\] must hold numbers from 0 to 29'),
    (near_clusters, dict(start=FALLING), r'start must rise from 0 to 29 in the 4 clusters'),
    (near_clusters, dict(lengths=(50, -7)), 'lengths must not be negative'),
    (near_clusters, dict(cluster_size=0), 'cluster_size must be at least 1, found 0'),
    (near_clusters, dict(cluster_size=-1000), 'cluster_size must be at least 1, found -1000'),
    (near_clusters, dict(start=hood().start[:3]), 'start must hold more than the 6 clusters'),
    (clusters, dict(canvas=(0, 8)), r'canvas must be sides from 1 to .*found \(0, 8\)'),
    (clusters, dict(canvas=(8, 0)), r'canvas must be sides from 1 to .*found \(8, 0\)'),
    (clusters, dict(canvas=(8, HUGE)), 'canvas must be sides from 1 to'),
    (attention, dict(start=hood().start[:0]), 'start must hold at least one row'),
    (attention_backward, dict(start=hood().start[:0]), 'start must hold at least one row'),
    (attention, dict(cluster_size=1 << 61), 'cluster_size must be at most 65536'),
    (attention, dict(cluster_size=-1000), 'cluster_size must be at least 1'),
    (patches, dict(patch_size=0), 'patch_size must be at least 4, found 0'),
    (patches, dict(patch_size=2), 'patch_size must be at least 4, found 2'),
    (masks, dict(strips=5), 'strips must divide the width of 12 pixels, found 5'),
    (masks, dict(strips=13), 'strips must divide the width'),
    # And these returned something as if nothing were wrong.
    (attention, dict(neighbors=hood().neighbors + 10**6), 'neighbors must hold numbers up to 6'),
    (attention, dict(start=FALLING), 'start must rise by 0 to 8 rows .* found 8 and then 6'),
    (attention_backward, dict(start=hood().start.clamp(max=40)), 'start must .* end with 43'),
    (attention, dict(xy=hood().xy - (1 << 31)), 'xy must hold numbers from -1073741824'),
    (merge, dict(rows=torch.full((11, 3), 13)), 'rows must hold numbers up to 12, found 13'),
    (patches, dict(xy=WRAPPING), 'xy must hold numbers from -2147483648 to 2147483647, found 42'),
    (patches, dict(xy=OFF_GRID), r'xy\[:, 1\] must be multiples of 2, .* found 1'),
    (patches, dict(image=torch.zeros(2, 3, 24, 40, dtype=torch.complex128)), 'image must hold'),
    (search, dict(places=torch.zeros(5, 2).cfloat()), 'places must hold real numbers'),
    (clusters, dict(counts=torch.tensor([9, 5])), r'counts must be .* \[9, 4\], found \[9, 5\]'),
    (clusters, dict(counts=torch.tensor([4, 9])), r'counts must be .* \[9, 4\], found \[4, 9\]'),
    (clusters, dict(canvas=(8, 4)), r'xy\[:, 0\] must hold numbers from 0 to 3'),
    (attention, dict(xy=hood().xy.to('meta')), 'xy must be on cpu as q is, found meta'),
    (attention, dict(start=hood().start.to('meta')), 'start must be on cpu as q is, found meta'),
    (attention, dict(backend='gpu'), "backend must be one of cpu, cuda, triton, found 'gpu'"),
)


@pytest.mark.parametrize(('function', 'changed', 'message'), FOUND)
def test_what_fuzzing_found_is_named(function, changed, message):
    function()
    with pytest.raises((ValueError, IndexError), match=message):
        function(**changed)


@pytest.mark.parametrize('backend', ['cpu', 'reference'])
@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        (dict(start=FALLING), 'start must rise by 0 to 8 rows'),
        (dict(neighbors=hood().neighbors + 10**6), 'neighbors must hold numbers up to 6'),
        (dict(xy=hood().xy - (1 << 31)), 'xy must hold numbers'),
    ],
)
def test_lies_of_a_neighborhood_are_named(monkeypatch, backend, changed, message):
    monkeypatch.setenv('MMSEG_ARTA_OPS', backend)
    tensors, own, clamp = inputs.attention_inputs((29, 14), 2, 8)
    with pytest.raises((ValueError, IndexError), match=message):
        ops.cluster_attention(*tensors, replace(own, **changed), clamp)


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        (dict(cluster_size=0), 'cluster_size must be from 1 to 65536, found 0'),
        (dict(start=FALLING[:0]), 'start must hold at least one row'),
        (dict(xy=hood().xy[:, :1]), r'xy must be \(43, 2\)'),
        (dict(batch=hood().batch[:3]), r'batch must be \(43\)'),
        (dict(order=hood().order.int()), 'order must be torch.int64, found torch.int32'),
        (dict(start=FALLING.to('meta')), 'start must be on cpu as xy is, found meta'),
    ],
)
def test_a_neighborhood_names_what_does_not_fit(changed, message):
    with pytest.raises(ValueError, match=message):
        replace(hood(), **changed)


def test_a_neighborhood_is_looked_at_once(monkeypatch):
    monkeypatch.setenv('MMSEG_ARTA_OPS', 'reference')
    tensors, own, clamp = inputs.attention_inputs((29, 14), 2, 8)
    ops.cluster_attention(*tensors, own, clamp)
    own.neighbors.fill_(10**6)
    own.check_contents()
    with pytest.raises(IndexError, match='neighbors'):
        replace(own).check_contents()


def test_maps_name_places_that_there_are_not():
    grid, batch = torch.rand(2, 3, 4), torch.tensor([0, 1])
    xy = torch.tensor([[0, 1], [2, -1]]).int()
    with pytest.raises(IndexError, match=r'xy must hold numbers from 0 .* found -1 at \(1, 1\)'):
        ops.at_patches(grid, xy, batch, 4)
    with pytest.raises(IndexError, match='batch must hold numbers from 0 to 1, found -1'):
        ops.at_patches(grid, xy.abs(), batch - 1, 4)
    with pytest.raises(ValueError, match='patch_size must be at least 4, found 2'):
        ops.at_patches(grid, xy.abs(), batch, 2)
    levels = [some_tokens((9, 4), (8, 8), 4), some_tokens((9, 4), (8, 8), 4)]
    first = replace(
        levels[0],
        feats=torch.zeros(2, 1),
        xy=torch.tensor([[0, 0], [0, 0]]).int(),
        lengths=(1, 1),
        offsets=torch.tensor([0, 1, 2]).int(),
        grid=(1, 1),
    )
    with pytest.raises(IndexError, match=r'level.xy\[:, 0\] must hold numbers from 0 to 7'):
        ops.finest_token_map([first, replace(levels[1], xy=levels[1].xy + 8)])


SIZES = [
    *((ARTA, name, value) for name in ('cluster_size', 'num_neighbor_clusters')
      for value in (0, -1000, 1 << 61, float('nan'))),
    *((AutoFocusFormer, 'cluster_size', value) for value in (0, -1000, 1 << 61)),
]  # fmt: skip


@pytest.mark.parametrize(('model', 'name', 'value'), SIZES)
def test_absurd_sizes_of_a_config_are_named(model, name, value):
    arch = dict(dims=(8, 8, 16, 16), num_heads=(1, 1, 2, 2))
    arch |= (
        dict(allocation_depths=(1, 1, 1), refinement_depths=(1, 1, 1, 1))
        if model is ARTA
        else dict(depths=(1, 1, 1, 1))
    )
    with pytest.raises(ValueError, match=rf'arch\.{name} must be'):
        model(arch | {name: value})


@pytest.mark.parametrize('kept', [0.0, 0.3, 0.9, 0.9999, 'a byte'])
def test_a_library_that_was_cut_off_is_not_loaded(built_library, tmp_path, monkeypatch, kept):
    content = bytearray(built_library.read_bytes())
    if kept == 'a byte':
        content[len(content) // 2] ^= 1
    else:
        del content[int(len(content) * kept) :]
    path = tmp_path / 'cut.so'
    path.write_bytes(content)
    torch.manual_seed(0)
    expected = public_search().rows
    monkeypatch.setattr(library.cpu, 'path', path)
    named = 'is damaged' if kept == 'a byte' else 'cut off'
    with pytest.warns(UserWarning, match=f'{named}.* build it again .*run without it'):
        assert not library.cpu.load()[0]
    assert ops.uses_reference('nearest_tokens', torch.zeros(1))
    torch.manual_seed(0)
    assert torch.equal(public_search().rows, expected)


@pytest.mark.parametrize('way', ['fork', 'spawn', 'threads', 'passes'])
def test_several_processes_threads_and_passes(built_library, way):
    script = Path(__file__).with_name('several_processes.py')
    done = subprocess.run(
        [sys.executable, str(script), way, str(built_library)],
        capture_output=True,
        text=True,
        timeout=300,
        env=python_environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
