from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from mmseg_arta.analysis.flops import OperationCount, count_operations
from mmseg_arta.analysis.flops.count import EvenAllocation
from mmseg_arta.analysis.flops.load import build_model, load_config
from mmseg_arta.analysis.flops.samples import SampleStatistics
from mmseg_arta.models.allocation import AllocationPolicy
from mmseg_arta.models.allocation.policies import Candidates

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NANO = 'arta-nano_mask2former_1xb4-2k_camvid-256x256'

# Measured on the published code, 512x512, 150 classes, billions of multiply-accumulates.
STAGES = [f'stage {index}' for index in range(7)]
TINY = {
    'full': dict(
        tokens={32: 256, 16: 1024, 8: 4096, 4: 16384},
        parts=dict(
            zip(
                [*STAGES, 'allocators'],
                (2.029, 2.338, 1.844, 4.520, 3.775, 14.274, 3.074, 0.413),
                strict=True,
            )
        ),
        components=dict(
            backbone=32.268, pixel_decoder=29.932, transformer_decoder=8.718, post_processing=4.194
        ),
        total=75.112,
    ),
    'caps': dict(
        tokens={32: 256, 16: 868, 8: 2428, 4: 5824},
        parts=dict(
            zip(
                [*STAGES, 'allocators'],
                (2.029, 2.019, 1.174, 1.922, 2.523, 12.616, 3.074, 0.335),
                strict=True,
            )
        ),
        components=dict(
            backbone=25.692, pixel_decoder=18.034, transformer_decoder=7.720, post_processing=4.194
        ),
        total=55.641,
    ),
}
LARGER = {
    'small': (62_067_216, dict(full=92.955, caps=70.242)),
    'base': (111_189_232, dict(full=150.799, caps=112.165)),
}


def arta(size: str) -> torch.nn.Module:
    config = load_config(f'arta-{size}_mask2former_4xb8-80k_ade20k-512x512')
    # as in the published code
    config.model.backbone.image_hidden = 'pixels'
    return build_model(config)


def giga(value: float, rel: float = 2e-3) -> object:
    # The measurements are rounded to a thousandth.
    return pytest.approx(value * 1e9, rel=rel)


@pytest.fixture(scope='module')
def tiny() -> torch.nn.Module:
    return arta('tiny')


@pytest.fixture(scope='module')
def nano() -> torch.nn.Module:
    return build_model(load_config(NANO))


@pytest.mark.parametrize('allocation', TINY)
def test_tiny_costs_what_was_published_by_component(tiny, allocation):
    expected = TINY[allocation]
    count = count_operations(tiny, (512, 512), allocation)
    assert count.tokens == expected['tokens']
    assert count.macs_published == giga(expected['total'], 2e-5)
    assert list(count.components) == list(expected['components'])
    for name, value in expected['components'].items():
        assert count.components[name].macs_published == giga(value, 1e-4), name
    parts = count.components['backbone'].parts
    assert {name: part.macs_published for name, part in parts.items()} == {
        name: giga(value) for name, value in expected['parts'].items()
    }
    # With the factorised mask step, and although kernels are counted, less is executed.
    assert count.macs < count.macs_published
    assert count.flops == 2 * count.macs
    assert count.mask_step.dense == 10 * 100 * 256 * 128 * 128
    assert count.mask_step.executed < count.mask_step.dense / 5


def test_parameters_by_component(tiny):
    count = count_operations(tiny, (32, 32), 'full')
    assert count.params == sum(p.numel() for p in tiny.parameters())
    assert count.params == pytest.approx(49_258_008, rel=0.01)
    assert count.components['backbone'].params == 29_852_827
    assert count.components['backbone'].parts['allocators'].params == 694_403
    assert count.components['pixel_decoder'].params == 4_907_750


@pytest.mark.parametrize('size', LARGER)
def test_larger_sizes_cost_what_was_published(size):
    params, totals = LARGER[size]
    model = arta(size)
    for allocation, total in totals.items():
        count = count_operations(model, (512, 512), allocation)
        assert count.params == pytest.approx(params, rel=0.01)
        assert count.macs_published == pytest.approx(total * 1e9, rel=1e-3)
        assert count.macs < count.macs_published
    del model
    gc.collect()


# What fvcore 0.1.5 counts of the network without the resizing of its logits.
STOCK = {
    'segformer_mit-b0_8xb2-160k_ade20k-512x512': (8_505_589_760, 3_753_718),
    'upernet_r50_4xb4-160k_ade20k-512x512': (238_193_526_784, None),
    'swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512': (237_184_593_792, None),
}


@pytest.mark.parametrize('name', STOCK)
def test_stock_models_count_as_in_fvcore(name):
    expected, params = STOCK[name]
    model = build_model(load_config(name))
    count = count_operations(model, (512, 512), dry=True)
    # Logits of 150 classes are resized to the image twice.
    resizing = 2 * 4 * 150 * 512 * 512
    assert count.components['post_processing'].macs == resizing
    assert count.macs == count.macs_published == expected + resizing
    if params:
        assert count.params == params
    assert count.params == sum(p.numel() for p in model.parameters())
    assert not count.tokens and count.mask_step is None


def test_dry_and_real_runs_count_alike(nano):
    dry, real = (count_operations(nano, (64, 96), 'caps', dry=dry) for dry in (True, False))
    assert dry == real


def test_back_ends_count_alike(nano, monkeypatch):
    counts = []
    for name in ('reference', ''):
        monkeypatch.setenv('MMSEG_ARTA_OPS', name)
        counts.append(count_operations(nano, (64, 96), 'caps'))
    assert counts[0].macs == counts[1].macs
    assert counts[0].to_dict()['components'] == counts[1].to_dict()['components']


def test_the_model_is_left_as_it_was(nano):
    def fail(*args):
        raise RuntimeError('broken')

    policy, config = nano.backbone.policy, nano.test_cfg
    nano.train()
    nano.decode_head.eval()
    count_operations(nano, (64, 96), 'full')
    handle = nano.backbone.register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match='cannot take an image of 64x96 px: broken'):
        count_operations(nano, (64, 96), 'full', mode='slide')
    handle.remove()
    assert nano.backbone.policy is policy and nano.test_cfg is config
    assert nano.training and nano.backbone.training and not nano.decode_head.training
    assert not any(module._forward_hooks for module in nano.modules())
    nano.eval()


def test_windows_cost_more_than_the_whole(nano):
    whole = count_operations(nano, (256, 384), 'full')
    # Its test_cfg says so.
    slide = count_operations(nano, (256, 384), 'full', mode='config')
    assert (whole.mode, slide.mode) == ('whole', 'slide')
    assert sum(slide.tokens.values()) > sum(whole.tokens.values())


def test_own_policy_decides_unless_told_otherwise(nano):
    class Nobody(AllocationPolicy):
        def __call__(self, candidates, round_index, training):
            return torch.zeros_like(candidates.scores, dtype=torch.bool)

    before, nano.backbone.policy = nano.backbone.policy, Nobody()
    assert count_operations(nano, (64, 96)).tokens == {32: 6, 16: 0, 8: 0, 4: 0}
    assert count_operations(nano, (64, 96), 'full').tokens == {32: 6, 16: 24, 8: 96, 4: 384}
    nano.backbone.policy = before


def test_caps_are_those_of_the_policy(nano):
    nano.backbone.policy.caps = (0.5, 0.25, 1.0)
    count = count_operations(nano, (64, 96), 'caps')
    del nano.backbone.policy.caps
    assert count.tokens == {32: 6, 16: 12, 8: 12, 4: 48}
    assert count_operations(nano, (64, 96), 'caps').tokens == {32: 6, 16: 20, 8: 56, 4: 132}


def test_forced_shares_are_exact_and_spread():
    scores = torch.zeros(25)
    candidates = Candidates(
        scores, torch.tensor([0] * 15 + [1] * 10), torch.tensor([0, 15, 25]), (15, 10)
    )
    chosen = EvenAllocation((0.3,))(candidates, 1, False)
    assert chosen[:15].sum() == 4 and chosen[15:].sum() == 3
    assert chosen[15:].nonzero().flatten().diff().max() <= 4


@pytest.mark.parametrize('other, shape', [((4, 8), [4, 8]), ((8, 4), None)])
def test_an_average_has_the_shape_that_all_images_have(other, shape):
    counts = tuple(OperationCount(size, 'model', 'whole', {}) for size in ((4, 8), other))
    assert SampleStatistics(counts, ('a', 'b')).to_dict()['shape'] == shape


def test_bad_arguments_are_named(nano, monkeypatch):
    with pytest.raises(ValueError, match='allocation must be one of full, caps, model or a share'):
        count_operations(nano, (64, 64), 'all')
    with pytest.raises(ValueError, match="mode must be one of whole, slide, config, found 'wind"):
        count_operations(nano, (64, 64), mode='windows')
    with pytest.raises(ValueError, match='shape must be two positive numbers'):
        count_operations(nano, (64, 0))
    with pytest.raises(ValueError, match='needs a model that allocates tokens by a policy'):
        count_operations(torch.nn.Conv2d(3, 4, 1), (8, 8), 'full')
    monkeypatch.setattr(nano, 'test_cfg', dict(crop_size=(256, 256), stride=(0, 128)))
    with pytest.raises(ValueError, match=r'test_cfg\.stride must be 2 integers from 1'):
        count_operations(nano, (64, 64), mode='slide')
    with pytest.raises(ValueError, match="mode 'slide' needs a segmentor"):
        count_operations(torch.nn.Conv2d(3, 4, 1), (8, 8), mode='slide')


def test_published_classifiers_have_tables_of_the_image(nano):
    # Of 16x24 cells, so of 31x47 relative positions; heads of all cluster blocks.
    count = count_operations(nano.backbone, (64, 96), 'full')
    inside = count_operations(nano, (64, 96), 'full').components['backbone']
    heads = sum(
        module.num_heads for module in nano.modules() if type(module).__name__ == 'ClusterAttention'
    )
    assert list(count.components) == ['model']
    assert count.macs == inside.macs
    assert inside.macs_published - count.macs_published == 5 * heads * (1023**2 - 31 * 47)
