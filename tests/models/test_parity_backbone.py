"""The whole ARTA backbone against the published implementation."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from mmseg_arta.checkpoints.arta import convert_arta_backbone
from mmseg_arta.models import ARTA
from mmseg_arta.models.layers import PublishedClustering
from tests.helpers import load_fixture, raster_order, take

LEVELS = ('res5', 'res4', 'res3', 'res2')


@cache
def fixture(name):
    return load_fixture(f'arta/backbone_{name}.pt')


def build(num_neighbor_clusters, tie_order='raster', cls=ARTA):
    case = fixture('local')
    config = case['config']
    model = cls(
        dict(
            dims=config['embed_dim'][:4],
            num_heads=config['num_heads'][:4],
            allocation_depths=config['depths'][:3],
            refinement_depths=config['depths'][3:],
            mlp_ratio=config['mlp_ratio'],
            layer_scale_init=config['layer_scale'],
            num_neighbor_clusters=num_neighbor_clusters,
        ),
        image_hidden='pixels',
        allocation=dict(
            type='BatchRatioAllocation',
            thresholds=config['thresholds'],
            caps=(1.0, 1.0, 1.0),
            floor=config['min_ratio'],
            inference='batch',
        ),
        tie_order=tie_order,
    )
    model.load_state_dict(convert_arta_backbone(case['state_dict']), strict=True)
    return model.eval()


def compare(tokens, outputs):
    for index, record in enumerate(tokens.rounds):
        places = outputs[f'upsampling_mask_pos_{index}'][..., 1:]
        expected = outputs[f'upsampling_mask_pred_{index}'].gather(1, raster_order(places))
        torch.testing.assert_close(record.scores.view_as(expected), expected, atol=1e-5, rtol=1e-4)
    loss = 0.0
    for level, name in zip(tokens.levels, LEVELS, strict=True):
        places = outputs[f'{name}_pos']
        order = raster_order(places)
        found_places = level.xy.view(places.shape)
        ours = raster_order(found_places)
        assert torch.equal(take(found_places, ours).long(), take(places, order).long())
        expected = take(outputs[name], order)
        found = take(level.feats.view_as(expected), ours)
        torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
        if 'cotangents' in outputs:
            loss = loss + (found * take(outputs['cotangents'][name], order)).sum()
    return loss


@pytest.mark.parametrize('tie_order', ['raster', 'published'])
def test_global_attention_with_gradients(tie_order):
    # Every cluster is a neighbour, so no tie decides anything.
    case = fixture('global')
    model = build(num_neighbor_clusters=10_000, tie_order=tie_order)
    compare(model(case['image']), case['outputs']).backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    wanted = convert_arta_backbone(case['outputs']['grad_small'])
    assert len(wanted) > 200
    for name, expected in wanted.items():
        scale = float(expected.abs().max()) + 1e-3
        torch.testing.assert_close(grads[name] / scale, expected / scale, atol=1e-3, rtol=0)
    norms = {key: torch.tensor([[value]]) for key, value in case['outputs']['grad_norm'].items()}
    for name, expected in convert_arta_backbone(norms).items():
        expected = float(expected.flatten()[0])
        assert abs(float(grads[name].norm()) - expected) <= 1e-3 * (expected + 1e-2), name


class CheckedClustering(PublishedClustering):
    """Compares the clusters of every round with those of the published run."""

    rounds = 0

    def neighborhood(self, levels):
        hood = super().neighborhood(levels)
        layer = fixture('local')['outputs']['layers'][self.rounds]
        self.rounds += 1
        places, near = layer['pos_out'].long(), layer['neighbors']
        batch, tokens, _ = places.shape
        scale = torch.cat([torch.full((len(lv), 1), i) for i, lv in enumerate(levels)])
        clustered = torch.cat((scale[hood.order], hood.xy), 1)
        assert torch.equal(clustered, places.flatten(0, 1)), f'places of round {self.rounds}'
        near = near + torch.arange(batch)[:, None, None] * -(-tokens // 8)
        assert torch.equal(hood.neighbors, near.flatten(0, 1)), f'neighbours of round {self.rounds}'
        return hood


class CheckedNeighbors(ARTA):
    """An encoder that keeps its clustering for the test to look at."""

    def clustering(self, canvas):
        sizes = (self.arch.cluster_size, self.arch.num_neighbor_clusters)
        self.checked = CheckedClustering(canvas, *sizes)
        return self.checked


def test_local_attention_in_published_order():
    case = fixture('local')
    model = build(6, 'published', CheckedNeighbors)
    tokens = model(case['image'])
    assert model.checked.rounds == 5
    compare(tokens, case['outputs'])
    for level, name in zip(tokens.levels, LEVELS, strict=True):
        assert torch.equal(level.xy.long(), case['outputs'][f'{name}_pos'].flatten(0, 1).long())


@pytest.mark.parametrize(
    'options',
    [
        dict(mixed_block='msdeform'),
        dict(
            allocation=dict(type='ReconsideringAllocation', policy=dict(type='ThresholdAllocation'))
        ),
    ],
    ids=['msdeform', 'reconsidering'],
)
def test_published_order_refuses(options):
    with pytest.raises(ValueError, match="tie_order='published' needs"):
        ARTA(tie_order='published', **options)


def test_local_attention_selects_the_same_tokens():
    # With our own tie rules features differ slightly, but no score is near its threshold.
    tokens = build(6)(fixture('local')['image'])
    for level, name in zip(tokens.levels, LEVELS, strict=True):
        places = fixture('local')['outputs'][f'{name}_pos']
        found = level.xy.view(places.shape).long()
        assert torch.equal(found, take(places, raster_order(places)).long())
