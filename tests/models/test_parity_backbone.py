"""The whole ARTA backbone against the published implementation."""

from __future__ import annotations

from functools import cache

import torch

from mmseg_arta.checkpoints import convert_arta_backbone
from mmseg_arta.models import ARTA
from mmseg_arta.structures import Neighborhood
from tests.helpers import load_fixture, raster_order, take

LEVELS = ('res5', 'res4', 'res3', 'res2')


@cache
def fixture(name):
    return load_fixture(f'arta/backbone_{name}.pt')


def build(num_neighbor_clusters, cls=ARTA):
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
        allocation=dict(
            type='BatchRatioAllocation',
            thresholds=config['thresholds'],
            caps=(1.0, 1.0, 1.0),
            floor=config['min_ratio'],
            inference='batch',
        ),
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
        assert torch.equal(level.xy.view(places.shape).long(), take(places, order).long())
        expected = take(outputs[name], order)
        found = level.feats.view_as(expected)
        torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
        if 'cotangents' in outputs:
            loss = loss + (found * take(outputs['cotangents'][name], order)).sum()
    return loss


def test_global_attention_with_gradients():
    # Every cluster is a neighbour, so no tie decides anything.
    case = fixture('global')
    model = build(num_neighbor_clusters=10_000)
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


class WithPublishedNeighbors(ARTA):
    """Clusters and neighbours as the published run had them, where ties are decided by chance."""

    def _neighborhood(self, stage, levels, canvas, hoods):
        layer = fixture('local')['outputs']['layers'][stage - 1]
        places, near = layer['pos_out'].long(), layer['neighbors']
        batch, tokens, _ = places.shape
        offset = torch.arange(batch)[:, None] * tokens
        ours = torch.cat(
            [
                torch.cat((torch.full_like(level.xy[:, :1], index), level.xy), 1)
                for index, level in enumerate(levels)
            ]
        ).long()
        image = torch.cat([level.batch_index() for level in levels])

        def code(image, rows):
            return ((image * 8 + rows[..., 0]) * 4096 + rows[..., 1]) * 4096 + rows[..., 2]

        theirs = code(torch.arange(batch)[:, None], places).flatten()
        mine = code(image, ours)
        order = mine.argsort()[theirs.argsort().argsort()]
        assert torch.equal(mine[order], theirs)
        clusters = -(-tokens // 8)
        start = (torch.arange(clusters) * 8 + offset).flatten()
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(len(order))
        return Neighborhood(
            order,
            inverse,
            torch.cat((start, torch.tensor([batch * tokens]))),
            (near + torch.arange(batch)[:, None, None] * clusters).flatten(0, 1),
            ours[order, 1:].int(),
            image[order],
            (tokens,) * batch,
            8,
        )


def test_local_attention_with_published_neighbors():
    case = fixture('local')
    compare(build(6, WithPublishedNeighbors)(case['image']), case['outputs'])


def test_local_attention_selects_the_same_tokens():
    # With our own tie rules features differ slightly, but no score is near its threshold.
    tokens = build(6)(fixture('local')['image'])
    for level, name in zip(tokens.levels, LEVELS, strict=True):
        places = fixture('local')['outputs'][f'{name}_pos']
        found = level.xy.view(places.shape).long()
        assert torch.equal(found, take(places, raster_order(places)).long())
