"""ARTA and DUPS as classifiers take them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmseg_arta.pretrain', exc_type=ImportError)

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from mmseg_arta import models
from mmseg_arta.checkpoints.converters import CheckpointError, check_weights, convert_state_dict
from mmseg_arta.pretrain.mixed import ARTA, DUPS
from tests.builders import NANO

ROOT = Path(__file__).resolve().parents[2]
KEYS = ROOT / 'tests/data/keys/arta_tiny_imagenet_published.json'


def small(kind=ARTA, **options):
    torch.manual_seed(0)
    model = kind(NANO, **options)
    model.init_weights()
    return model


@pytest.mark.parametrize('kind', [ARTA, DUPS])
@pytest.mark.parametrize('size', [(64, 64), (96, 130), (33, 64)], ids=str)
def test_one_map_of_the_32_px_tokens(kind, size):
    model = small(kind, drop_path_rate=0.0)
    (found,) = model(torch.randn(2, 3, *size))
    assert found.shape == (2, 32, -(-size[0] // 32), -(-size[1] // 32))
    found.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_map_is_the_segmentation_backbones():
    ours = small(allocation=dict(type='FullAllocation')).eval()
    theirs = models.ARTA(NANO, allocation=dict(type='FullAllocation')).eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    image = torch.randn(2, 3, 64, 96)
    level = theirs(image).levels[0]
    (found,) = ours(image)
    torch.testing.assert_close(found.permute(0, 2, 3, 1).reshape(-1, 32), level.feats)


@pytest.mark.parametrize('kind', [ARTA, DUPS])
@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
def test_weights_are_the_segmentation_backbones_without_scores(kind, arch):
    with torch.device('meta'):
        ours = kind(arch).state_dict()
        theirs = getattr(models, kind.__name__)(arch).state_dict()
    scores = {key for key in theirs if '.score.' in key}
    assert len(scores) == 30 and ours.keys() == theirs.keys() - scores
    assert all(ours[key].shape == theirs[key].shape for key in ours)


def tokens(model, image):
    """Tokens of the encoder, which the classifier does not hand out."""
    return models.backbones.mixed_encoder.MixedResolutionEncoder.forward(model, image)


@pytest.mark.parametrize(
    'schedule, progress, shares',
    [
        ((1.0, 0.5), 0.0, 1.0),
        ((1.0, 0.5), 0.5, 0.75),
        ((1.0, 0.5), 1.0, 0.5),
        ((1.0, 1.0), 0.0, 1.0),
        ((1.0, 1.0), 1.0, 1.0),
    ],
)
def test_one_share_for_all_rounds_and_images(schedule, progress, shares):
    model = small(allocation=dict(type='RandomAllocation', schedule=schedule)).train()
    model.policy.set_progress(progress)
    found = tokens(model, torch.randn(3, 3, 128, 128))
    for record in found.rounds:
        wanted = int(record.lengths[0] * shares + 1e-6)
        assert record.selected_lengths == (wanted,) * 3
    # At inference it is the share of the end.
    model.eval()
    found = tokens(model, torch.randn(1, 3, 128, 128))
    assert found.rounds[0].selected_lengths == (int(16 * schedule[1]),)


def test_the_draw_is_random_and_follows_the_seed():
    model = small().eval()
    image = torch.randn(1, 3, 128, 128)

    def draw(seed):
        torch.manual_seed(seed)
        return tokens(model, image).rounds[0].selected

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(allocation=dict(type='ThresholdAllocation')), 'scored=False leaves no scores'),
        (dict(allocation=dict(type='BatchRatioAllocation')), 'RandomAllocation or FullAllocation'),
        (
            dict(allocation=dict(train=dict(type='RandomAllocation'),
                                 test=dict(type='ThresholdAllocation'))),
            r'found TrainTestAllocation.*ThresholdAllocation',
        ),
        (
            dict(arch=NANO | dict(refinement_depths=(1,))),
            r'ARTA: arch.refinement_depths must have 4 numbers.*found \[1\]',
        ),
        (dict(allocation=dict(type='RandomAllocation', schedule=(1.0, 0.7, 0.5))), 'at the end'),
        (dict(allocation=dict(type='RandomAllocation', schedule=(1.2, 0.5))), 'must be shares'),
    ],
    ids=['threshold', 'ratio', 'test-only', 'stage-1', 'three-shares', 'no-share'],
)  # fmt: skip
def test_what_cannot_be_pre_trained_is_refused(options, message):
    init_default_scope('mmseg')
    with torch.device('meta'), pytest.raises(ValueError, match=message):
        ARTA(**dict(arch=NANO) | options)


def test_policies_without_scores_can_be_combined():
    init_default_scope('mmpretrain')
    model = small(
        allocation=dict(train=dict(type='RandomAllocation'), test=dict(type='FullAllocation'))
    )
    assert tokens(model.eval(), torch.randn(1, 3, 64, 64)).tokens_per_image()[3] == [256]


@pytest.mark.parametrize('family', ['arta', 'dups'])
def test_published_imagenet_weights_fill_the_classifier(family):
    init_default_scope('mmpretrain')
    (path,) = (ROOT / 'configs/imagenet').glob(f'{family}-tiny_*.py')
    config = Config.fromfile(path)
    shapes = json.loads(KEYS.read_text())
    published = {key: torch.zeros(shape, device='meta') for key, shape in shapes.items()}
    converted = convert_state_dict(family, published)
    assert not any('.score.' in key for key in converted)
    for hidden in ('deep', 'pixels'):
        config.model.backbone.image_hidden = hidden
        with torch.device('meta'):
            model = MODELS.build(config.model.to_dict())
        if hidden == 'deep':
            check_weights(converted, model)
        else:
            with pytest.raises(CheckpointError, match='image_mlp'):
                check_weights(converted, model)
