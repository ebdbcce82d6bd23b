from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import gather_patches
from mmseg_arta.ops.reference import patches as reference
from mmseg_arta.ops.registered import patches as registered
from tests.ops.cpu_cases import poisoned, strided, with_threads
from tests.ops.kernels import cpu

pytestmark = pytest.mark.usefixtures('cpu_kernels')


def make(images, channels, rows, cols, size, total, seed=0):
    """An image of so many patches, and patches of which some occur twice."""
    torch.manual_seed(seed)
    image = torch.randn(images, channels, rows * size, cols * size)
    xy = torch.stack((torch.randint(0, cols, (total,)), torch.randint(0, rows, (total,))), 1)
    return image, (xy * (size // 4)).int(), torch.randint(0, images, (total,)), size


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


@pytest.mark.parametrize('seed', range(20))
@pytest.mark.parametrize('size', [4, 8, 16])
def test_matches_the_reference(size, seed):
    torch.manual_seed(seed)
    sizes = [int(torch.randint(low, 6, ())) for low in (1, 1, 1, 1)]
    total = int(torch.randint(0, 40, ()))
    (out, grad), (expected, truth) = both(*make(*sizes, size, total, seed))
    assert torch.equal(out, expected)
    torch.testing.assert_close(grad, truth, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    'dtype', [torch.float64, torch.bfloat16, torch.float16, torch.uint8, torch.int64], ids=str
)
def test_number_types(dtype):
    image, *rest = make(2, 3, 3, 5, 8, 11)
    image = (image * 100).to(dtype)
    assert torch.equal(cpu.gather_patches(image, *rest), reference.gather_patches(image, *rest))
    if dtype.is_floating_point:
        (_, grad), (_, truth) = both(image, *rest)
        assert grad.dtype == dtype
        torch.testing.assert_close(grad, truth)


def test_thousands_of_patches():
    (out, grad), (expected, truth) = both(*make(2, 3, 50, 80, 4, 9001))
    assert torch.equal(out, expected)
    torch.testing.assert_close(grad, truth, rtol=1e-6, atol=1e-5)


def test_strided_inputs():
    image, xy, batch, size = make(2, 3, 3, 5, 8, 11)
    found = cpu.gather_patches(
        image.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        strided(xy.long()),
        strided(batch),
        size,
    )
    assert torch.equal(found, reference.gather_patches(image, xy, batch, size))


def test_gradients():
    image, *rest = make(2, 2, 2, 2, 4, 6)
    image = image.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda i: cpu.gather_patches(i, *rest), image)


def test_results_do_not_depend_on_the_number_of_threads():
    case = make(2, 3, 8, 8, 16, 300)
    first, *others = with_threads((1, 2, 3), lambda: both(*case)[0])
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def test_the_door_takes_this_back_end(monkeypatch):
    case = make(2, 3, 3, 5, 8, 11)
    monkeypatch.setattr(reference, 'gather_patches', None)
    assert torch.equal(gather_patches(*case), cpu.gather_patches(*case))


@pytest.mark.parametrize('total', [0, 11])
def test_opcheck(total):
    image, xy, batch, size = make(2, 3, 3, 5, 8, total)
    leaf = image.clone().requires_grad_()
    torch.library.opcheck(registered.forward, (leaf, xy, batch, size, 'cpu'))
    grad_out = torch.randn(total, 192)
    given = (grad_out, xy, batch, *image.shape, size, 'cpu')
    torch.library.opcheck(registered.backward, given)


def test_bad_inputs_are_named():
    image, xy, batch, size = make(2, 3, 3, 5, 8, 11)
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
        with pytest.raises(IndexError, match='index out of range'):
            gather_patches(image, wrong, batch, size)
    with pytest.raises(IndexError, match='index out of range'):
        gather_patches(image, xy, batch + 2, size)
