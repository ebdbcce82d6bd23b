"""Patch gathering against its definition, and every back end against the reference."""

from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import gather_patches
from mmseg_arta.ops.gather_patches import kernels, reference
from tests.ops.helpers import (
    DTYPES,
    assert_close,
    poisoned,
    run,
    strided,
    with_threads,
)
from tests.ops.inputs import patch_inputs
from tests.ops.kernels import cpu, cuda


@pytest.mark.parametrize('size', [4, 8, 16])
def test_pixels_in_raster_order_channels_fastest(size):
    image = torch.randn(2, 3, 32, 48)
    xy = torch.tensor([[4, 0], [0, 4], [8, 4]], dtype=torch.int32)
    batch = torch.tensor([0, 1, 1])
    found = gather_patches(image, xy, batch, size)
    for row in range(3):
        x, y = (xy[row] * 4).tolist()
        expected = image[batch[row], :, y : y + size, x : x + size].permute(1, 2, 0).flatten()
        assert torch.equal(found[row], expected)


def test_no_patches():
    found = gather_patches(
        torch.randn(1, 3, 32, 32),
        torch.zeros(0, 2, dtype=torch.int32),
        torch.zeros(0, dtype=torch.long),
        8,
    )
    assert found.shape == (0, 192)


def test_gradients():
    image = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    xy = torch.tensor([[0, 0], [1, 1], [0, 0]], dtype=torch.int32)
    torch.autograd.gradcheck(
        lambda i: gather_patches(i, xy, torch.zeros(3, dtype=torch.long), 4), image
    )


def test_odd_sizes_are_refused():
    with pytest.raises(ValueError, match='30x32 px does not divide into patches of 8 px'):
        gather_patches(
            torch.randn(1, 3, 30, 32),
            torch.zeros(0, 2, dtype=torch.int32),
            torch.zeros(0, dtype=torch.long),
            8,
        )


def both(image, xy, batch, size):
    """Patches and the image's gradient on both back ends, in poisoned memory."""
    results = []
    for module in (cpu, reference):
        leaf = image.detach().requires_grad_()
        with poisoned():
            out = module.gather_patches(leaf, xy, batch, size)
            torch.manual_seed(1)
            (grad,) = torch.autograd.grad(out, leaf, torch.randn(out.shape).to(out.dtype))
        results.append((out.detach(), grad))
    return results


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('seed', range(20))
@pytest.mark.parametrize('size', [4, 8, 16])
def test_cpu_matches_the_reference(size, seed):
    torch.manual_seed(seed)
    sizes = [int(torch.randint(low, 6, ())) for low in (1, 1, 1, 1)]
    total = int(torch.randint(0, 40, ()))
    (out, grad), (expected, truth) = both(*patch_inputs(*sizes, size, total, seed))
    assert torch.equal(out, expected)
    torch.testing.assert_close(grad, truth, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize(
    'dtype', [torch.float64, torch.bfloat16, torch.float16, torch.uint8, torch.int64], ids=str
)
def test_cpu_number_types(dtype):
    image, *rest = patch_inputs(2, 3, 3, 5, 8, 11)
    image = (image * 100).to(dtype)
    assert torch.equal(cpu.gather_patches(image, *rest), reference.gather_patches(image, *rest))
    if dtype.is_floating_point:
        (_, grad), (_, truth) = both(image, *rest)
        assert grad.dtype == dtype
        torch.testing.assert_close(grad, truth)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_thousands_of_patches():
    (out, grad), (expected, truth) = both(*patch_inputs(2, 3, 50, 80, 4, 9001))
    assert torch.equal(out, expected)
    torch.testing.assert_close(grad, truth, rtol=1e-6, atol=1e-5)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_strided_inputs():
    image, xy, batch, size = patch_inputs(2, 3, 3, 5, 8, 11)
    found = cpu.gather_patches(
        image.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        strided(xy.long()),
        strided(batch),
        size,
    )
    assert torch.equal(found, reference.gather_patches(image, xy, batch, size))


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_gradients():
    image, *rest = patch_inputs(2, 2, 2, 2, 4, 6)
    image = image.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda i: cpu.gather_patches(i, *rest), image)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_results_do_not_depend_on_the_number_of_threads():
    case = patch_inputs(2, 3, 8, 8, 16, 300)
    first, *others = with_threads((1, 2, 3), lambda: both(*case)[0])
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


@pytest.mark.usefixtures('cpu_kernels')
def test_is_taken(monkeypatch):
    case = patch_inputs(2, 3, 3, 5, 8, 11)
    monkeypatch.setattr(reference, 'gather_patches', None)
    assert torch.equal(gather_patches(*case), cpu.gather_patches(*case))


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('total', [0, 11])
def test_cpu_opcheck(total):
    image, xy, batch, size = patch_inputs(2, 3, 3, 5, 8, total)
    leaf = image.clone().requires_grad_()
    torch.library.opcheck(kernels.forward, (leaf, xy, batch, size, 'cpu'))
    grad_out = torch.randn(total, 192)
    given = (grad_out, xy, batch, *image.shape, size, 'cpu')
    torch.library.opcheck(kernels.backward, given)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_bad_inputs_are_named():
    image, xy, batch, size = patch_inputs(2, 3, 3, 5, 8, 11)
    with pytest.raises(ValueError, match='patch_size must be a multiple of 4, found 6'):
        gather_patches(image, xy, batch, 6)
    with pytest.raises(ValueError, match=r'xy must be \(11, 2\)'):
        gather_patches(image, xy[:5], batch, size)
    with pytest.raises(ValueError, match=r'xy must hold integers, found torch.float32'):
        gather_patches(image, xy.float(), batch, size)
    with pytest.raises(ValueError, match=r'batch must be torch.int64'):
        gather_patches(image, xy, batch.int(), size)
    with pytest.raises(ValueError, match='batch must be on cpu as image is, found meta'):
        gather_patches(image, xy, batch.to('meta'), size)
    for wrong in (xy + 100, xy - 100):
        with pytest.raises(IndexError, match=r'xy\[:, 0\] must hold numbers from 0 to 8'):
            gather_patches(image, wrong, batch, size)
    with pytest.raises(IndexError, match='batch must hold numbers from 0 to 1'):
        gather_patches(image, xy, batch + 2, size)


@pytest.mark.usefixtures('emulated_cuda')
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.uint8], ids=str)
def test_cuda_patches(dtype):
    image = (torch.randn(2, 3, 16, 24) * 50).to(dtype)
    xy = torch.tensor([[2, 0], [4, 2], [0, 2], [2, 0]], dtype=torch.int32)
    batch = torch.tensor([1, 0, 1, 0])
    found = cuda.gather_patches(image, xy, batch, 8)
    assert torch.equal(found, reference.gather_patches(image, xy, batch, 8))


@pytest.mark.usefixtures('emulated_cuda')
def test_cuda_patches_outside_the_image_are_not_read():
    image = torch.randn(1, 3, 16, 16)
    xy = torch.tensor([[4, 0], [0, -2], [0, 0], [0, 0]], dtype=torch.int32)
    places = xy, torch.tensor([0, 0, 1, -1]), 8
    # On a GPU the host does not look, so the kernel must.
    found = torch.ones(4, 192)
    kernels.FORWARD['cuda'](found, image, *places)
    assert not found.any()
    with pytest.raises(IndexError, match='batch must hold numbers from 0 to 0, found 1'):
        cuda.gather_patches(image, *places)


@pytest.mark.usefixtures('emulated_cuda')
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('total', [0, 1, 40])
def test_cuda_backward_of_patches(total, dtype):
    # Many occur several times; their sum has one order.
    image, *places = patch_inputs(2, 3, 2, 3, 8, total)
    grad_out = torch.randn(total, 192).to(dtype)
    found, again = (
        run(lambda leaf: cuda.gather_patches(leaf, *places), [image.to(dtype)], grad_out)[1]
        for _ in range(2)
    )
    double = image.double().requires_grad_()
    truth = reference.gather_patches(double, *places)
    (expected,) = torch.autograd.grad(truth, double, grad_out.double())
    assert_close([found], [expected], ['image'], dtype)
    assert torch.equal(found, again)
