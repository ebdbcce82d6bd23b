from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import gather_patches


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
