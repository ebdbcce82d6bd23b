"""Class scores of pixels: kernel and public function against the reference, and checks."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from mmseg_arta.analysis.flops import count_operations
from mmseg_arta.ops import class_scores
from mmseg_arta.ops.backend import ENV
from mmseg_arta.ops.class_scores import kernels, reference
from tests.ops.helpers import instruction_set, poisoned, strided, with_threads
from tests.ops.inputs import score_inputs
from tests.ops.kernels import cpu

pytestmark = pytest.mark.usefixtures('cpu_kernels')

# images, queries, classes, rows, columns, cell, height, width
CASES = {
    'whole': (1, 100, 150, 16, 16, 4, 64, 64),
    'cut': (2, 7, 5, 5, 7, 4, 18, 25),
    'wide': (1, 10, 19, 3, 70, 8, 23, 557),
    'three strips': (1, 3, 7, 2, 385, 4, 8, 1539),
    'no strips': (1, 3, 7, 2, 263, 4, 8, 1049),
    'blocks': (2, 4, 3, 50, 64, 4, 197, 256),
    'cells of one pixel': (1, 4, 3, 9, 11, 1, 9, 11),
    'one of everything': (1, 1, 1, 1, 1, 4, 1, 1),
    'no queries': (1, 0, 3, 2, 2, 4, 8, 8),
    'no classes': (1, 3, 0, 2, 2, 4, 8, 8),
    'no images': (0, 3, 4, 2, 2, 4, 8, 8),
}


@pytest.fixture
def counted(monkeypatch):
    """The rows of pixels of every call of the kernel by the public function."""
    calls, forward = [], kernels.forward

    def count(logits, cell, first, rows, width, strips, backend):
        calls.append((first, rows, strips))
        return forward(logits, cell, first, rows, width, strips, backend)

    monkeypatch.setattr(kernels, 'forward', count)
    return calls


def check(probs, logits, cell, size):
    with poisoned():
        found = class_scores(probs, logits, cell, size)
    truth = reference.class_scores(probs.double(), logits.double(), cell, size)
    assert found.dtype == torch.float32
    scale = max(float(truth.abs().max()) if truth.numel() else 0.0, 1e-2)
    torch.testing.assert_close(found.double(), truth, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize('instructions', ['base', 'avx2', 'avx512'])
@pytest.mark.parametrize('case', CASES)
def test_matches_the_reference(case, instructions, counted):
    with instruction_set(instructions):
        check(*score_inputs(*CASES[case]))
    assert bool(counted) == (case != 'no images')


@pytest.mark.parametrize('seed', range(40))
def test_random_sizes(seed, monkeypatch):
    # Small blocks, so that there are several, and strips that do and do not divide the width.
    module = sys.modules[class_scores.__module__]
    monkeypatch.setattr(module, 'PIXELS_PER_THREAD', 1 << seed % 11)
    monkeypatch.setattr(module, 'STRIP', 1 + seed % 13)
    torch.manual_seed(seed)
    images, queries, classes, rows, columns, cell = (
        int(torch.randint(1, high, ())) for high in (4, 30, 40, 9, 40, 9)
    )
    height = int(torch.randint(1, rows * cell + 1, ()))
    width = int(torch.randint(1, columns * cell + 1, ()))
    check(*score_inputs(images, queries, classes, rows, columns, cell, height, width, seed))


def test_blocks_cover_the_image_once(counted):
    _, (_, threads) = with_threads(
        (1, 2), lambda: [class_scores(*score_inputs(1, 2, 3, 4, 512, 2, 7, 1024)), list(counted)]
    )
    assert threads == [(0, 4, 2), (4, 3, 2), (0, 7, 2)]


def probabilities(logits, cell, size):
    """What the reference multiplies with the classes."""
    return reference.class_scores(
        torch.eye(logits.shape[0])[None].to(logits), logits[None], cell, size
    )[0]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('strips', [1, 5, 25])
def test_probabilities_of_some_rows(strips, dtype):
    _, logits, cell, size = score_inputs(*CASES['cut'])
    truth = probabilities(logits[1].double(), cell, size)[:, 3:14]
    with poisoned():
        found = cpu.mask_probabilities(logits[1].to(dtype), cell, 3, 11, size[1], strips)
    assert found.shape == (11 * strips, 7, 25 // strips) and found.dtype == dtype
    found = found.view(11, strips, 7, -1).permute(2, 0, 1, 3).flatten(2).double()
    torch.testing.assert_close(found, truth, rtol=0, atol=2e-6 if dtype == torch.float32 else 1e-13)


def test_float64_is_exact(monkeypatch, counted):
    monkeypatch.setenv(ENV, 'cpu')
    probs, logits, cell, size = score_inputs(*CASES['cut'])
    found = class_scores(probs.double(), logits.double(), cell, size)
    truth = reference.class_scores(probs.double(), logits.double(), cell, size)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-13)
    assert counted


def test_extreme_logits_give_zero_and_one():
    logits = torch.tensor([-1e30, -200.0, 200.0, 1e30]).view(4, 1, 1)
    found = cpu.mask_probabilities(logits, 1, 0, 1, 1, 1).flatten()
    torch.testing.assert_close(found, torch.tensor([0.0, 0, 1, 1]))


@pytest.mark.parametrize('value', [torch.nan, torch.inf, -torch.inf], ids=str)
def test_what_is_not_finite_shows_as_in_the_reference(value):
    logits = torch.zeros(1, 1, 3, 3)
    logits[0, 0, 2, 2] = value
    arguments = (torch.ones(1, 1, 1), logits, 4, (12, 12))
    truth = reference.class_scores(*arguments)
    assert truth.isnan().any() == (value != value) and not truth.isnan().all()
    torch.testing.assert_close(class_scores(*arguments), truth, equal_nan=True)


def test_layouts_and_threads_change_nothing():
    probs, logits, cell, size = score_inputs(*CASES['blocks'])

    def both():
        kernel = cpu.mask_probabilities(logits[0], cell, 5, 7, size[1], 2)
        return [kernel, class_scores(probs, logits, cell, size)]

    (kernel, one), (kernel_of_three, three) = with_threads((1, 3), both)
    assert torch.equal(kernel, kernel_of_three)
    torch.testing.assert_close(three, one, rtol=0, atol=1e-6)
    apart = class_scores(strided(probs), strided(logits), cell, size)
    torch.testing.assert_close(apart, one, rtol=0, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_no_worse_than_plain(dtype):
    probs, logits, cell, size = score_inputs(*CASES['cut'])
    probs, logits = probs.to(dtype), logits.to(dtype)
    exact = reference.class_scores(probs.double(), logits.double(), cell, size)
    plain = reference.class_scores(probs, logits, cell, size)
    found = class_scores(probs, logits, cell, size)
    assert found.dtype == dtype
    assert (found - exact).abs().max() <= 2 * (plain - exact).abs().max()


def test_the_public_function_gives_gradients():
    probs, logits, cell, size = score_inputs(1, 3, 2, 2, 3, 4, 7, 10)
    probs, logits = probs.double().requires_grad_(), logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p, m: class_scores(p, m, cell, size), (probs, logits))


def test_compilers_see_the_definition(counted):
    arguments = score_inputs(*CASES['cut'])
    found = torch.compile(class_scores, backend='eager', fullgraph=True)(*arguments)
    torch.testing.assert_close(found, reference.class_scores(*arguments), rtol=0, atol=1e-6)
    assert not counted


def test_costs_what_the_definition_costs(monkeypatch):
    probs, logits, cell, size = score_inputs(*CASES['whole'])

    class Model(nn.Module):
        def forward(self, image):
            return class_scores(probs, logits, cell, size)

    costs = []
    for backend in ('reference', 'cpu'):
        monkeypatch.setenv(ENV, backend)
        count = count_operations(Model(), (8, 8))
        assert not count.uncounted
        costs.append((count.macs, count.macs_published))
    expected = size[0] * size[1] * (100 * 150 + 4 * 100)
    assert costs == [(expected, expected)] * 2


def test_opcheck():
    _, logits, cell, size = score_inputs(*CASES['cut'])
    torch.library.opcheck(kernels.forward, (logits[0], cell, 3, 11, size[1], 5, 'cpu'))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(class_probs=torch.ones(2, 3)), r'class_probs must be \(B, Q, K\), found \(2, 3\)'),
        (dict(mask_logits=torch.ones(1, 2, 4, 4)), r'mask_logits must be \(1, 3, h, w\), found'),
        (dict(mask_logits=torch.ones(1, 3, 4, 4).long()), 'mask_logits must hold floating-point'),
        (dict(cell=0), 'cell must be at least 1, found 0'),
        (dict(size=(17, 4)), r'size must be from 1 to \(16, 16\).*found \(17, 4\)'),
        (dict(size=(0, 4)), r'size must be from 1 to'),
    ],
)
def test_errors_name_the_argument(change, message):
    arguments = dict(
        class_probs=torch.ones(1, 3, 2), mask_logits=torch.ones(1, 3, 4, 4), cell=4, size=(16, 16)
    )
    with pytest.raises(ValueError, match=message):
        class_scores(**{**arguments, **change})


def test_tensors_without_data():
    probs = torch.rand(2, 3, 3, device='meta')
    out = class_scores(probs, torch.rand(2, 3, 2, 4, device='meta'), 4, (7, 16))
    assert out.is_meta and out.shape == (2, 3, 7, 16)
