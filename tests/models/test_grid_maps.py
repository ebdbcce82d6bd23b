"""Rows as maps and back, and the layout that keeps convolutions fast."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmseg_arta.models.backbones import EfficientNetLite0
from mmseg_arta.models.backbones.aff import StridedPatchEmbed
from mmseg_arta.models.backbones.lrformer import ConvStem
from mmseg_arta.models.layers import (
    ConvMlp,
    ConvNeXtV2Block,
    ConvPatchEmbed,
    LowResolutionSelfAttention,
    to_maps,
    to_rows,
)
from mmseg_arta.models.layers.low_resolution import ResidualConvMlp

GRID = (5, 6)
BATCHES = pytest.mark.parametrize('batch', [1, 2], ids=['one image', 'two images'])


def channels_are_last(maps: torch.Tensor) -> bool:
    """Along the batch too, where ``is_contiguous`` does not look at the stride of one image."""
    _, dim, rows, columns = maps.shape
    return maps.stride() == (rows * columns * dim, 1, columns * dim, dim)


def depthwise(dim: int) -> nn.Conv2d:
    return nn.Conv2d(dim, dim, 3, padding=1, groups=dim)


@BATCHES
def test_rows_come_back_without_a_copy(batch):
    rows = torch.randn(batch, 30, 8)
    maps = to_maps(rows, GRID)
    assert torch.equal(maps[-1, :, 2, 3], rows[-1, 2 * 6 + 3])
    assert torch.equal(to_rows(maps), rows)
    assert to_rows(maps).data_ptr() == maps.data_ptr() == rows.data_ptr()


def test_rows_of_other_layouts():
    maps = torch.randn(2, 8, *GRID)
    expected = maps.flatten(2).transpose(1, 2)
    for given in (maps, maps.contiguous(memory_format=torch.channels_last)):
        assert torch.equal(to_rows(given), expected)
    assert torch.equal(to_rows(maps[:, :, :3, :4]), maps[:, :, :3, :4].flatten(2).transpose(1, 2))


@BATCHES
@torch.no_grad()
def test_convolutions_see_channels_last(batch):
    rows, conv = torch.randn(batch, 30, 32), depthwise(32)
    maps = to_maps(rows, GRID)
    assert channels_are_last(maps) and channels_are_last(conv(maps))
    plain = rows.transpose(1, 2).reshape(batch, 32, *GRID)
    torch.testing.assert_close(conv(maps), conv(plain))


def layouts(module: nn.Module, *args: object) -> list[tuple[str, bool]]:
    """Whether inputs and outputs of convolutions larger than 1x1 have channels last, in order."""
    found = []

    def look(name: str):
        def hook(_, inputs, output):
            found.append((name, channels_are_last(inputs[0]) and channels_are_last(output)))

        return hook

    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
            layer.register_forward_hook(look(name))
    module(*args)
    return found


IMAGE = torch.randn(2, 3, 64, 96)
CASES = {
    'ConvMlp': (lambda: ConvMlp(8, 32), lambda b: (torch.randn(b, 30, 8), GRID), 1),
    'ConvNeXtV2Block': (lambda: ConvNeXtV2Block(8), lambda b: (torch.randn(b, 30, 8), GRID), 1),
    'ConvPatchEmbed': (lambda: ConvPatchEmbed(64), lambda b: (IMAGE[:b],), 5),
    'StridedPatchEmbed': (lambda: StridedPatchEmbed(16), lambda b: (IMAGE[:b],), 2),
    'ConvStem': (lambda: ConvStem(16), lambda b: (IMAGE[:b],), 4),
    'EfficientNetLite0': (EfficientNetLite0, lambda b: (IMAGE[:b],), 17),
}


@BATCHES
@pytest.mark.parametrize('name', CASES)
@torch.no_grad()
def test_layers_keep_channels_last(name, batch):
    make, inputs, convs = CASES[name]
    found = layouts(make().eval(), *inputs(batch))
    assert len(found) == convs and all(last for _, last in found), found


@BATCHES
@torch.no_grad()
def test_low_resolution_attention_keeps_channels_last(batch):
    attention = LowResolutionSelfAttention(16, 2, 4)
    assert channels_are_last(attention(to_maps(torch.randn(batch, 30, 16), GRID)))


def test_convolutional_mlp_has_a_short_connection_that_learns():
    mlp = ResidualConvMlp(8, 16)
    x = torch.randn(2, 8, 6, 6, requires_grad=True)
    hidden = mlp.act(mlp.fc1(x))
    plain = mlp.fc2(hidden + mlp.dwconv(hidden))
    wanted = [x, *mlp.parameters()]
    weight = torch.randn_like(plain)
    expected = torch.autograd.grad(plain, wanted, weight)
    torch.testing.assert_close(torch.autograd.grad(mlp(x), wanted, weight), expected)
