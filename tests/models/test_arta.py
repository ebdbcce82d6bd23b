from __future__ import annotations

import json

import pytest
import torch
from mmseg.registry import MODELS

from mmseg_arta.models import ARTA
from mmseg_arta.models.allocation import ThresholdAllocation
from tests.builders import NANO
from tests.helpers import DATA


def build(thresholds=(0.0, 0.0, 0.0), **options):
    options.setdefault('drop_path_rate', 0.0)
    model = ARTA(NANO, dict(type='ThresholdAllocation', thresholds=thresholds), **options)
    model.init_weights()
    return model


class Chequered(ThresholdAllocation):
    """Images choose different numbers of tokens, and the second one none."""

    def __call__(self, case, round_index, training):
        index = torch.arange(len(case.scores))
        return (index % 3 == 0) & (case.batch != 1)


@pytest.mark.parametrize(
    'arch, parameters, scores',
    [
        ('tiny', 29_852_827, 694_403),
        ('small', 42_662_035, 694_403),
        ('base', 91_595_379, 1_557_699),
    ],
)
def test_published_parameter_counts(arch, parameters, scores):
    with torch.device('meta'):
        model = MODELS.build(dict(type='ARTA', arch=arch, image_hidden='pixels'))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert sum(p.numel() for a in model.allocators for p in a.score.parameters()) == scores


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
def test_state_dict_stays_loadable(arch):
    with torch.device('meta'):
        model = ARTA(arch, image_hidden='pixels')
    found = {key: list(value.shape) for key, value in model.state_dict().items()}
    expected = json.loads((DATA / f'keys/arta_{arch}.json').read_text())
    assert found == expected


@pytest.mark.parametrize('size', [(64, 96), (33, 97), (1, 1), (128, 40)], ids=str)
@pytest.mark.parametrize('batch', [1, 3])
def test_any_image_size_and_batch(size, batch):
    tokens = build()(torch.randn(batch, 3, *size))
    assert tokens.image_size == size
    assert all(side % 32 == 0 for side in tokens.canvas)
    assert [level.patch_size for level in tokens.levels] == [32, 16, 8, 4]
    assert [level.feats.shape[1] for level in tokens.levels] == [32, 32, 16, 16]
    assert all(level.batch_size == batch for level in tokens.levels)
    for level in tokens.levels:
        # Raster order within every image, no place twice.
        key = level.batch_index() * 10**8 + level.xy[:, 1] * 10**4 + level.xy[:, 0]
        assert (key.diff() > 0).all()
        assert torch.isfinite(level.feats).all()
        assert level.offsets.tolist() == [sum(level.lengths[:i]) for i in range(batch + 1)]


def test_every_token_above_the_threshold():
    tokens = build((-1e9,) * 3)(torch.randn(2, 3, 64, 96))
    assert [len(level) for level in tokens.levels] == [12, 48, 192, 768]
    assert all(record.selected.all() for record in tokens.rounds)


def test_no_token_above_the_threshold():
    model = build((1e9,) * 3)
    tokens = model(torch.randn(2, 3, 64, 96))
    assert [len(level) for level in tokens.levels] == [12, 0, 0, 0]
    assert [len(record.scores) for record in tokens.rounds] == [12, 0, 0]
    loss = sum(level.feats.sum() for level in tokens.levels)
    (loss + sum(record.scores.sum() for record in tokens.rounds)).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert not missing


def test_no_token_in_some_images():
    model = build()
    model.policy = Chequered((0.0,) * 3)
    tokens = model(torch.randn(3, 3, 64, 96))
    assert tokens.levels[1].lengths[1] == 0 and tokens.levels[1].lengths[0] > 0
    assert all(torch.isfinite(level.feats).all() for level in tokens.levels)


def test_children_lie_in_selected_parents():
    tokens = build()(torch.randn(2, 3, 64, 96))
    for record, level in zip(tokens.rounds, tokens.levels[1:], strict=True):
        unit = record.patch_size // 4
        image = torch.arange(2).repeat_interleave(record.offsets.diff())
        parents = {
            (b, *xy)
            for b, xy, chosen in zip(
                image.tolist(), record.xy.tolist(), record.selected.tolist(), strict=True
            )
            if chosen
        }
        children = [
            (b, x // unit * unit, y // unit * unit)
            for b, (x, y) in zip(level.batch_index().tolist(), level.xy.tolist(), strict=True)
        ]
        assert set(children) == parents and len(children) == 4 * len(parents)


def test_an_image_does_not_depend_on_its_batch():
    model = build().eval()
    images = torch.randn(3, 3, 64, 96)
    together = model(images)
    for index in range(3):
        alone = model(images[index : index + 1])
        for one, many in zip(alone.levels, together.levels, strict=True):
            begin, end = many.offsets[index : index + 2].tolist()
            assert torch.equal(one.xy, many.xy[begin:end])
            torch.testing.assert_close(one.feats, many.feats[begin:end], atol=1e-5, rtol=1e-4)


def test_two_runs_are_equal():
    model, images = build().eval(), torch.randn(2, 3, 64, 96)
    for first, second in zip(model(images).levels, model(images).levels, strict=True):
        assert torch.equal(first.feats, second.feats) and torch.equal(first.xy, second.xy)


def test_padding_within_the_last_patches_is_black_image():
    model, image = build().eval(), torch.randn(1, 3, 64, 96)
    cut = image.clone()
    cut[..., 92:] = 0
    for padded, whole in zip(model(cut[..., :92]).levels, model(cut).levels, strict=True):
        assert torch.equal(padded.feats, whole.feats)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('reconsider', [True, False])
@torch.no_grad()
def test_patches_beyond_the_image_get_no_finer_tokens(reconsider, training):
    """A canvas of 64x96 for an image of 36x72: all that shows some of it is refined to the end."""
    allocation = dict(type='ThresholdAllocation', thresholds=(-1e9,) * 3)
    if reconsider:
        allocation = dict(type='ReconsideringAllocation', policy=allocation)
    tokens = ARTA(NANO, allocation).train(training)(torch.randn(2, 3, 36, 72))
    for level, parent in zip(tokens.levels[1:], (32, 16, 8), strict=True):
        rows, columns = -(-36 // parent) * 2, -(-72 // parent) * 2
        assert level.lengths == (rows * columns,) * 2
        # In units of 4 px: the parents begin within the image.
        assert (level.xy[:, 0] // (parent // 4) * parent < 72).all()
        assert (level.xy[:, 1] // (parent // 4) * parent < 36).all()


@torch.no_grad()
def test_patches_beyond_the_image_are_the_last_of_a_fixed_share():
    allocation = dict(type='FixedRatioAllocation', ratios=(1.0, 0.5, 1.0))
    tokens = ARTA(NANO, allocation).eval()(torch.randn(1, 3, 36, 72))
    # 24 patches of 16 px, 15 of which show some of the image: the half are all among these.
    *_, record, _ = tokens.rounds
    chosen = record.xy[record.selected] * 4
    assert len(chosen) == 12 and (chosen[:, 0] < 72).all() and (chosen[:, 1] < 36).all()


def test_float64_and_gradients():
    model = build().double()
    image = torch.randn(1, 3, 32, 64, dtype=torch.float64, requires_grad=True)
    tokens = model(image)
    assert all(level.feats.dtype == torch.float64 for level in tokens.levels)
    sum(level.feats.square().sum() for level in tokens.levels).backward()
    assert torch.isfinite(image.grad).all() and image.grad.any()


def test_bf16_autocast_scores_in_single_precision():
    model = build()
    with torch.autocast('cpu', torch.bfloat16):
        tokens = model(torch.randn(2, 3, 64, 64))
        loss = sum(level.feats.float().sum() for level in tokens.levels)
    loss.backward()
    assert all(record.scores.dtype == torch.float32 for record in tokens.rounds)


def test_checkpointing_changes_nothing():
    images = torch.randn(2, 3, 64, 64)
    plain, saving = build(), build(with_cp=True)
    saving.load_state_dict(plain.state_dict())
    for model in (plain, saving):
        sum(level.feats.square().sum() for level in model(images).levels).backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_drop_path_drops_whole_images():
    from mmseg_arta.models.layers import DropPath

    layer = DropPath(0.5).train()
    batch = torch.arange(50).repeat_interleave(4)
    rows = layer(torch.ones(200, 3), batch, 50).view(50, 12)
    assert ((rows == rows[:, :1]).all(1)).all()
    assert set(rows.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(layer.eval()(torch.ones(4, 3), batch[:4], 1), torch.ones(4, 3))


def test_patch_embeddings():
    assert 'patch_embed.conv.weight' in build(patch_embed='kernel').state_dict()
    tokens = build(patch_embed='kernel')(torch.randn(1, 3, 64, 64))
    assert len(tokens.levels[0]) == 4


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(arch='huge'), "arch='huge' is unknown: expected one of .*base.*small.*tiny"),
        (dict(arch=dict(dims=(1, 2, 3, 4))), 'missing fields'),
        (dict(arch=dict(NANO, window=3)), "unknown fields .'window'."),
        (dict(arch=dict(NANO, dims=(32, 16, 8))), 'dims must be 4 integers from 1 to'),
        (dict(arch=dict(NANO, num_heads=(3, 2, 2, 1))), 'divisible by num_heads'),
        (dict(arch=dict(NANO, cluster_size=0)), 'cluster_size must be at least 1'),
        (dict(patch_embed='mlp'), "patch_embed must be 'conv' or 'kernel', found 'mlp'"),
        (dict(image_hidden='all'), "image_hidden must be 'pixels', 'dim' or 'deep', found 'all'"),
        (dict(drop_path_rate=1.5), r'drop_path_rate must be a finite number in \[0, 1\)'),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ARTA(**options)


@pytest.mark.parametrize(
    'shape', [(1, 3, 0, 32), (0, 3, 32, 32), (1, 4, 32, 32), (3, 32, 32)], ids=str
)
def test_bad_images_are_refused(shape):
    with pytest.raises(ValueError, match='ARTA needs images'):
        build()(torch.zeros(shape))


def test_encoders_without_scores_take_policies_that_need_none():
    from mmseg_arta.models import ARTA
    from tests.builders import NANO

    for policy in (
        dict(type='RandomAllocation', schedule=(0.5, 0.5)),
        dict(type='ReconsideringAllocation', policy=dict(type='RandomAllocation')),
    ):
        model = ARTA(NANO, allocation=policy, scored=False)
        assert not [name for name, _ in model.named_parameters() if '.score.' in name]
        tokens = model(torch.randn(2, 3, 64, 64))
        assert all((record.scores == 0).all() for record in tokens.rounds)
        assert not any(record.scores.requires_grad for record in tokens.rounds)
        sum(level.feats.square().sum() for level in tokens.levels).backward()
        assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(ValueError, match='scored=False leaves no scores to select by'):
        ARTA(NANO, scored=False)
