"""LRFormer backbone: parity, sizes, cost of attention, options and weights."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import nn
from torch.overrides import TorchFunctionMode

from mmseg_arta.checkpoints.lrformer import convert_lrformer_backbone
from mmseg_arta.models import LRFormer
from mmseg_arta.models.layers import share_extent
from mmseg_arta.models.layers.low_resolution import (
    LowResolutionSelfAttention,
    pooled_grid,
    pyramid_sides,
)
from tests.helpers import load_fixture

TINY = dict(dims=(8, 8, 20, 16), depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 4))


@cache
def published():
    case = load_fixture('lrformer/backbone.pt')
    config = case['config']
    model = LRFormer(
        dict(
            dims=config['embed_dims'],
            depths=config['depths'],
            num_heads=config['num_heads'],
            mlp_ratios=config['mlp_ratios'],
        )
    )
    model.load_state_dict(convert_lrformer_backbone(case['state_dict']), strict=True)
    return model.eval(), case


@pytest.mark.parametrize('aspect', ['square', 'landscape', 'portrait'])
@torch.no_grad()
def test_published_maps(aspect):
    model, case = published()
    found = model(case['inputs'][aspect])
    # The finest two are stored at every second row and column.
    for maps, expected, step in zip(found, case['outputs'][aspect], (2, 2, 1, 1), strict=True):
        scale = float(expected.abs().max())
        torch.testing.assert_close(maps[..., ::step, ::step], expected, atol=1e-4 * scale, rtol=0)


@pytest.mark.parametrize('size', [(65, 97), (100, 132), (48, 80), (31, 1)], ids=str)
@torch.no_grad()
def test_any_size_goes_in(size):
    model, _ = published()
    image = torch.randn(2, 3, *size)
    found = model(image)
    padded = model(F.pad(image, (0, -size[1] % 32, 0, -size[0] % 32)))
    for maps, full, stride in zip(found, padded, (4, 8, 16, 32), strict=True):
        rows, cols = (-(-side // stride) for side in size)
        assert maps.shape[2:] == (rows, cols)
        shown = full[:, :, :rows, :cols]
        if size[0] % stride == size[1] % stride == 0:
            torch.testing.assert_close(maps, shown)
        else:
            expected = share_extent(share_extent(shown, 2, stride, size[0]), 3, stride, size[1])
            torch.testing.assert_close(maps, expected)
            assert torch.equal(maps, shown) == (rows == cols == 1)


@pytest.mark.parametrize('extent', [70, 95, 96])
def test_cells_share_the_image(extent):
    """A ramp over patches of 32 px is one over cells, but before the first patch's centre."""
    patches = torch.arange(3.0) * 32 + 16
    maps = patches.expand(2, 4, 3)
    cells = (torch.arange(3.0) + 0.5) * extent / 3
    torch.testing.assert_close(
        share_extent(maps, 2, 32, extent), cells.clamp(min=16).expand(2, 4, 3)
    )
    columns = share_extent(maps.transpose(1, 2).half(), 1, 32, extent)
    torch.testing.assert_close(columns[0, :, 0].float(), cells.clamp(min=16), atol=0.05, rtol=0)


@pytest.mark.parametrize('shape', [(3, 32, 32), (1, 4, 32, 32), (0, 3, 32, 32), (1, 3, 0, 32)])
def test_other_inputs_are_errors(shape):
    with pytest.raises(ValueError, match=r'LRFormer needs images \(B, 3, H, W\).*found \('):
        published()[0](torch.zeros(shape))


def test_pooled_sizes():
    assert [pyramid_sides(size) for size in (16, 7, 32)] == [
        (11, 8, 6, 4),
        (5, 4, 3, 2),
        (22, 16, 12, 8),
    ]
    assert min(pyramid_sides(1)) == 1
    assert pooled_grid(16, (24, 40)) == (16, 27)
    assert pooled_grid(16, (40, 24)) == (27, 16)
    assert pooled_grid(4, (8, 9)) == (4, 5)  # halves are rounded up


def test_small_maps_are_pooled_up_unless_told_otherwise():
    up = LowResolutionSelfAttention(8, 2, 6).double()
    plain = LowResolutionSelfAttention(8, 2, 6, pool_up=False).double()
    plain.load_state_dict(up.state_dict())
    small, large = torch.randn(1, 8, 4, 5).double(), torch.randn(1, 8, 12, 9).double()
    torch.testing.assert_close(up(large), plain(large))
    seen = []
    for layer in (up, plain):
        layer.q.register_forward_hook(lambda _, args, __: seen.append(args[0].shape[1]))
    assert not torch.allclose(up(small), plain(small))
    assert seen == [6 * 8, 4 * 5]


def test_pooled_size_may_be_fixed_whatever_the_aspect():
    layer = LowResolutionSelfAttention(8, 2, (16, 16)).double()
    kept = LowResolutionSelfAttention(8, 2, 16).double()
    kept.load_state_dict(layer.state_dict())
    square, wide = torch.randn(1, 8, 20, 20).double(), torch.randn(1, 8, 20, 40).double()
    torch.testing.assert_close(layer(square), kept(square))
    assert layer.grids((64, 128)) == ((16, 16), [(11, 11), (8, 8), (6, 6), (4, 4)])
    assert kept.grids((64, 128)) == ((16, 32), [(11, 22), (8, 16), (6, 12), (4, 8)])
    assert layer(wide).shape == wide.shape and not torch.allclose(layer(wide), kept(wide))
    small = LowResolutionSelfAttention(8, 2, [16, 8], pool_up=False)
    assert small.grids((10, 40)) == ((10, 8), [(11, 6), (8, 4), (6, 3), (4, 2)])


def test_attention_is_softmax_of_pooled_rows():
    layer = LowResolutionSelfAttention(6, 2, 16).double()
    x = torch.randn(1, 6, 16, 16).double()
    rows = [F.adaptive_avg_pool2d(x, side).flatten(2).mT for side in (11, 8, 6, 4)]
    keys, values = layer.kv(layer.norm(torch.cat(rows, 1))).chunk(2, -1)
    queries, heads = layer.q(x.flatten(2).mT), []
    for lanes in (slice(0, 3), slice(3, 6)):
        share = (queries[..., lanes] @ keys[..., lanes].mT / 3**0.5).softmax(-1)
        heads.append(share @ values[..., lanes])
    expected = layer.proj(torch.cat(heads, -1)).mT.view(1, 6, 16, 16)
    torch.testing.assert_close(layer(x), expected)


class AttentionCost(TorchFunctionMode):
    """Multiply-accumulates of attention products, and four for every resized element."""

    def __init__(self):
        super().__init__()
        self.products = self.resizing = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            queries, keys = args[:2]
            self.products += 2 * queries.numel() * keys.shape[-2]
        elif func is F.interpolate:
            self.resizing += 4 * out.numel()
        return out


def test_cost_of_attention_is_flat_in_the_size():
    with torch.device('meta'):
        model = LRFormer('small').eval()
    found = []
    for size in (512, 1024, 1536):
        with torch.no_grad(), AttentionCost() as cost:
            model(torch.empty(1, 3, size, size, device='meta'))
        found.append((cost.products / 1e9, cost.resizing / 1e9))
    products, resizing = zip(*found, strict=True)
    assert products[0] == products[1] == products[2] > 0.7
    assert resizing[2] == pytest.approx(9 * resizing[0])
    # Printed with one decimal in table 12 of the paper.
    assert [sum(parts) for parts in found] == pytest.approx([0.8, 0.9, 1.1], abs=0.06)


@pytest.mark.parametrize(
    'arch, millions',
    [('t', 11.27), ('small', 27.86), ('base', 59.99), ('large', 99.31), ('xl', 184.72)],
)
def test_published_parameters(arch, millions):
    with torch.device('meta'):
        model = LRFormer(arch)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
    pre_norms = [
        (stage, block)
        for stage, blocks in enumerate(model.stages)
        for block, layer in enumerate(blocks.blocks)
        if isinstance(layer.pre_norm, nn.BatchNorm2d)
    ]
    assert pre_norms == ([(2, 7), (2, 15)] if arch == 'xl' else [])


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(arch='huge'), "arch='huge' is unknown: expected one of .*'tiny'"),
        (dict(arch=dict(dims=(8, 8, 8, 8), width=3)), "unknown fields \\['width'\\]"),
        (dict(arch=dict(dims=(8, 8, 8, 8))), "missing fields \\['depths'\\]"),
        (dict(arch=TINY | dict(depths=(1, 0, 1, 1))), 'depths must be 4 integers from 1 to'),
        (dict(arch=TINY | dict(num_heads=(3, 2, 2, 4))), 'divisible by num_heads, found 8'),
        (dict(arch=TINY | dict(dims=(7, 8, 20, 16))), 'first of dims must be even, found 7'),
        (
            dict(arch=TINY | dict(pre_norm_blocks=(2,))),
            r'pre_norm_blocks must be 0 to 2 integers from 0 to 1, found \(2,\)',
        ),
        (dict(arch=TINY, pooled_size=0), 'pooled_size must be an integer from 1.*found 0'),
        (dict(arch=TINY, pooled_size=(16, 0)), r'pooled_size must.*found \(16, 0\)'),
        (dict(arch=TINY, pooled_size=1.5), 'pooled_size must.*found 1.5'),
        (
            dict(arch=TINY, out_indices=(0, 4)),
            'out_indices must be ascending integers within 0 to 3, found',
        ),
        (dict(arch=TINY, out_indices=(1, 0)), 'out_indices must be ascending'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        LRFormer(**options)


def test_unknown_arguments_are_errors():
    with pytest.raises(TypeError, match='checkpoint'):
        LRFormer('tiny', checkpoint='weights.pth')
    with pytest.raises(TypeError, match='q_pool_ratios'):
        MODELS.build(dict(type='LRFormer', arch='tiny', q_pool_ratios=[8, 4, 2, 1]))


@pytest.mark.parametrize('position_conv', [True, False])
@pytest.mark.parametrize('mlp_conv', [True, False])
def test_everything_there_is_learns(position_conv, mlp_conv):
    arch = TINY | dict(pre_norm_blocks=(1,), layer_scale_init=(0, 0, 0.5, 0.5))
    model = LRFormer(arch, 4, position_conv=position_conv, mlp_conv=mlp_conv, drop_path_rate=0.0)
    names = {name for name, _ in model.named_parameters()}
    assert any('.cpe.' in name for name in names) == position_conv
    assert any('.mlp.dwconv.' in name for name in names) == mlp_conv
    model.init_weights()
    sum(maps.square().sum() for maps in model(torch.randn(2, 3, 64, 40))).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A shift of all keys, or before batch normalisation, changes nothing.
    assert not [name for name in missing if not name.endswith('.bias')]


def test_stages_behind_the_last_output_are_not_there():
    model = LRFormer(TINY, out_indices=(1, 2))
    assert len(model.stages) == 3 and model.out_channels == (8, 20)
    assert [maps.shape[1:] for maps in model(torch.randn(1, 3, 32, 64))] == [(8, 4, 8), (20, 2, 4)]


@pytest.mark.parametrize('training', [False, True])
def test_recomputed_blocks_give_the_same_gradients_and_statistics(training):
    arch = TINY | dict(pre_norm_blocks=(0, 1))
    model = LRFormer(arch, 4, drop_path_rate=0.0).train(training)
    other = LRFormer(arch, 4, drop_path_rate=0.0, with_cp=True).train(training)
    other.load_state_dict(model.state_dict())
    image = torch.randn(1, 3, 64, 64)
    for each in (model, other):
        sum(maps.square().sum() for maps in each(image)).backward()
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    for (name, p), q in zip(model.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(p, q), name


def test_initial_weights():
    model = LRFormer('tiny')
    model.init_weights()
    block = model.stages[3].blocks[0]
    assert float(block.attn.kv.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(block.mlp.fc1.weight.detach().std()) == pytest.approx((2 / 1536) ** 0.5, rel=0.05)
    # Nine weights a channel: the fan of a depth-wise convolution is that of one group.
    assert float(block.mlp.dwconv.weight.detach().std()) == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert not block.attn.q.bias.any() and not block.mlp.fc1.bias.any()
    assert float(block.scale1.gamma.detach().mean()) == pytest.approx(1e-6)
    assert isinstance(model.stages[0].blocks[0].scale1, nn.Identity)


def test_pretrained_weights_are_loaded_whole(tmp_path):
    source = LRFormer(TINY)
    path = str(tmp_path / 'weights.pth')
    weights = {f'backbone.{key}': value for key, value in source.state_dict().items()}
    torch.save(dict(state_dict=weights | {'decode_head.x': torch.zeros(1)}), path)
    cfg = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    model = LRFormer(TINY, init_cfg=cfg)
    model.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[key]), key
    with pytest.raises(ValueError, match=r'does not fit LRFormer.*keys missing.*1 unexpected'):
        LRFormer(TINY, init_cfg=cfg | dict(prefix='decode_head.')).init_weights()
    wider = TINY | dict(dims=(8, 8, 20, 32))
    with pytest.raises(ValueError, match=r'of another shape \[.* instead of '):
        LRFormer(wider, init_cfg=cfg).init_weights()
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth'):
        LRFormer(TINY, init_cfg=cfg | dict(checkpoint='nowhere.pth')).init_weights()
    with pytest.raises(ValueError, match='takes checkpoint, prefix'):
        LRFormer(TINY, init_cfg=cfg | dict(strict=False)).init_weights()
