"""Class scores of pixels: the C++ kernel against the reference, and the door's checks."""

from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import class_scores
from mmseg_arta.ops.reference import class_scores as reference
from mmseg_arta.ops.registered import class_scores as registered
from tests.ops.cpu_cases import instruction_set, poisoned, strided, with_threads
from tests.ops.kernels import cpu

pytestmark = pytest.mark.usefixtures('cpu_kernels')

# images, queries, classes, rows, columns, cell, height, width
CASES = {
    'whole': (1, 100, 150, 16, 16, 4, 64, 64),
    'cut': (2, 7, 5, 5, 7, 4, 18, 25),
    'wide': (1, 10, 19, 3, 70, 8, 23, 557),
    'three strips': (1, 3, 7, 2, 261, 4, 8, 1041),
    'cells of one pixel': (1, 4, 3, 9, 11, 1, 9, 11),
    'one of everything': (1, 1, 1, 1, 1, 4, 1, 1),
    'no queries': (1, 0, 3, 2, 2, 4, 8, 8),
    'no classes': (1, 3, 0, 2, 2, 4, 8, 8),
    'no images': (0, 3, 4, 2, 2, 4, 8, 8),
}


def make(images, queries, classes, rows, columns, cell, height, width, seed=0):
    torch.manual_seed(seed)
    probs = torch.rand(images, queries, classes)
    logits = torch.randn(images, queries, rows, columns) * 8
    return probs, logits, cell, (height, width)


def check(probs, logits, cell, size):
    with poisoned():
        found = cpu.class_scores(probs, logits, cell, size)
    truth = reference.class_scores(probs.double(), logits.double(), cell, size)
    assert found.dtype == torch.float32
    scale = max(float(truth.abs().max()) if truth.numel() else 0.0, 1e-2)
    torch.testing.assert_close(found.double(), truth, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize('instructions', ['base', 'avx2', 'avx512'])
@pytest.mark.parametrize('case', CASES)
def test_matches_the_reference(case, instructions):
    with instruction_set(instructions):
        check(*make(*CASES[case]))


@pytest.mark.parametrize('seed', range(40))
def test_random_sizes(seed):
    torch.manual_seed(seed)
    images, queries, classes, rows, columns, cell = (
        int(torch.randint(1, high, ())) for high in (4, 30, 40, 9, 40, 9)
    )
    height = int(torch.randint(1, rows * cell + 1, ()))
    width = int(torch.randint(1, columns * cell + 1, ()))
    check(*make(images, queries, classes, rows, columns, cell, height, width, seed))


def test_float64_is_exact():
    probs, logits, cell, size = make(*CASES['cut'])
    found = cpu.class_scores(probs.double(), logits.double(), cell, size)
    truth = reference.class_scores(probs.double(), logits.double(), cell, size)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-13)


def test_extreme_logits_give_zero_and_one():
    logits = torch.tensor([-1e30, -200.0, 200.0, 1e30]).view(1, 4, 1, 1)
    found = cpu.class_scores(torch.eye(4)[None], logits, 1, (1, 1))
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 0, 1, 1]))


def test_nan_stays_visible():
    logits = torch.zeros(1, 1, 2, 2)
    logits[0, 0, 1, 1] = torch.nan
    arguments = (torch.ones(1, 1, 1), logits, 4, (8, 8))
    missing = reference.class_scores(*arguments).isnan()
    assert missing.any() and torch.equal(cpu.class_scores(*arguments).isnan(), missing)


def test_layouts_and_threads_change_nothing():
    probs, logits, cell, size = make(*CASES['cut'])
    (one,), (three,) = with_threads((1, 3), lambda: [cpu.class_scores(probs, logits, cell, size)])
    apart = cpu.class_scores(strided(probs), strided(logits), cell, size)
    assert torch.equal(one, three) and torch.equal(one, apart)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_no_worse_than_plain(dtype):
    probs, logits, cell, size = make(*CASES['cut'])
    probs, logits = probs.to(dtype), logits.to(dtype)
    exact = reference.class_scores(probs.double(), logits.double(), cell, size)
    plain = reference.class_scores(probs, logits, cell, size)
    found = class_scores(probs, logits, cell, size)
    assert found.dtype == dtype
    assert (found - exact).abs().max() <= 2 * (plain - exact).abs().max()


def test_the_door_gives_gradients():
    probs, logits, cell, size = make(1, 3, 2, 2, 3, 4, 7, 10)
    probs, logits = probs.double().requires_grad_(), logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p, m: class_scores(p, m, cell, size), (probs, logits))


def test_opcheck():
    probs, logits, cell, size = make(*CASES['cut'])
    torch.library.opcheck(registered.forward, (probs, logits, cell, *size, 'cpu'))


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
