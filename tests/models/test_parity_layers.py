"""Cluster blocks, token splitting: outputs and gradients of the published implementation."""

from __future__ import annotations

import pytest
import torch

from mmseg_arta.checkpoints import rename_keys
from mmseg_arta.models.allocation import BatchRatioAllocation, TokenAllocator
from mmseg_arta.models.layers import ClusterBlock
from mmseg_arta.ops import build_neighborhood
from mmseg_arta.structures import Neighborhood, TokenSet, offsets_from_lengths
from tests.helpers import load_fixture, raster_order, take

LAYERS = load_fixture('arta/cluster_layer.pt')
SPLITS = load_fixture('arta/split_step.pt')


def published_neighborhood(case) -> Neighborhood:
    """The published clusters and neighbour lists, for a batch of equal counts."""
    batch, tokens = case['outputs']['order'].shape
    shift = torch.arange(batch)
    order = (case['outputs']['order'] + shift[:, None] * tokens).flatten()
    clusters = -(-tokens // 8)
    start = (torch.arange(clusters) * 8 + shift[:, None] * tokens).flatten()
    neighbors = case['outputs']['neighbors'] + shift[:, None, None] * clusters
    images = shift.repeat_interleave(tokens)
    xy = case['inputs']['pos'][..., 1:].reshape(-1, 2).int()
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order))
    return Neighborhood(
        order,
        inverse,
        torch.cat((start, torch.tensor([batch * tokens]))),
        neighbors.flatten(0, 1),
        xy[order],
        images,
        (tokens,) * batch,
        8,
    )


def run_layer(case, hood):
    config = case['config']
    blocks = torch.nn.ModuleList(
        ClusterBlock(
            config['dim'],
            config['num_heads'],
            config['mlp_ratio'],
            layer_scale_init=config['layer_scale'],
        )
        for _ in range(config['depth'])
    )
    blocks.load_state_dict(rename(case['state_dict']))
    feat = case['inputs']['feat'].flatten(0, 1).requires_grad_()
    x = hood.to_clusters(feat)
    for block in blocks:
        x = block(x, hood)
    out = hood.to_tokens(x)
    (out * case['inputs']['cotangent'].flatten(0, 1)).sum().backward()
    return out, feat.grad, {name: p.grad for name, p in blocks.named_parameters()}


def rename(state):
    return rename_keys(
        state, [(r'blocks\.(\d)\.gamma([12])', r'\1.scale\2.gamma'), (r'blocks\.(.*)', r'\1')]
    )


def close(found, expected, tolerance):
    scale = float(expected.abs().max()) + 1e-6
    torch.testing.assert_close(found / scale, expected / scale, atol=tolerance, rtol=0)


@pytest.mark.parametrize('name', LAYERS)
def test_cluster_layer(name):
    case = LAYERS[name]
    batch, tokens, _ = case['inputs']['pos'].shape
    hood = None
    if case['outputs']['neighbors'] is not None:
        hood = published_neighborhood(case)
    if hood is None or 'tiefree' in name:
        # Nothing depends on ties here: our own clusters must do as well.
        images = torch.arange(batch).repeat_interleave(tokens)
        hood = build_neighborhood(
            case['inputs']['pos'][..., 1:].reshape(-1, 2).int(),
            images,
            torch.full((batch,), tokens),
            (tokens,) * batch,
            (case['config']['h'], case['config']['w']),
        )
    out, grad, grads = run_layer(case, hood)
    expected = torch.empty_like(out).view(batch, tokens, -1)
    expected.scatter_(
        1, case['outputs']['order'][..., None].expand_as(expected), case['outputs']['feat_out']
    )
    close(out, expected.flatten(0, 1), 1e-4)
    close(grad, case['outputs']['grad_feat'].flatten(0, 1), 1e-3)
    for key, value in rename(case['outputs']['grads']).items():
        close(grads[key], value, 1e-3)


@pytest.mark.parametrize('name', SPLITS)
def test_split_step(name):
    case = SPLITS[name]
    config, state, outputs = case['config'], case['state_dict'], case['outputs']
    positions, features = case['inputs']['features_pos'], case['inputs']['features']
    batch = features.shape[0]
    scale = config['scale']
    finest = positions[..., 0] == scale - 1

    def pick(rows, mask):
        # The same number of rows of every image, in the given order.
        return rows[mask].view(batch, -1, rows.shape[2])

    patch = config['patch_sizes'][scale]
    allocator = TokenAllocator(config['dim_in'], patch, image_hidden='pixels')
    embed = rename_keys(
        {key: value for key, value in state.items() if not key.startswith('token_')},
        [
            ('rel_pos_emb', 'position'),
            ('scale_emb', 'scale'),
            (r'image_patch_projection\.(\w+)', r'image_mlp.0.\1'),
            (r'high_res_norm1\.(\w+)', r'image_mlp.2.\1'),
            (r'high_res_mlp\.(.*)', r'image_mlp.3.\1'),
            (r'high_res_norm2\.(\w+)', r'image_mlp.4.\1'),
        ],
    )
    embed['position'], embed['scale'] = embed['position'][0], embed['scale'][0, 0]
    allocator.embed.load_state_dict(embed)
    norm, proj = (
        torch.nn.LayerNorm(config['dim_in']),
        torch.nn.Linear(config['dim_in'], config['dim_out']),
    )
    norm.load_state_dict({k[11:]: v for k, v in state.items() if k.startswith('token_norm.')})
    proj.load_state_dict({k[17:]: v for k, v in state.items() if k.startswith('token_projection.')})

    # Our rows are in raster order; the published ones come in any order.
    corners = pick(positions, finest)[..., 1:]
    order = raster_order(corners)
    places = take(corners, order).reshape(-1, 2).int()
    feats = take(pick(features, finest), order).flatten(0, 1).requires_grad_()
    scores = case['inputs']['scores'].gather(1, order).flatten().requires_grad_()
    allocator.predict = lambda _: scores
    count = int(finest[0].sum())
    lengths = (count,) * batch
    tokens = TokenSet(
        feats,
        places,
        offsets_from_lengths(lengths, places.device),
        lengths,
        2 * patch,
        (128 // (2 * patch),) * 2,
    )
    cap = config['upscale_ratio']
    policy = BatchRatioAllocation(
        thresholds=(config['threshold'],) * 3, caps=(cap,) * 3, inference='batch'
    )
    allocator.train(config['training'])
    parents, children, record = allocator(tokens, case['inputs']['im'], policy, 0)
    assert record.selected_lengths == (outputs['n_split'],) * batch

    out_pos, ct = outputs['pos'], case['inputs']['cotangent']
    loss = 0.0
    for level, rows in ((scale - 1, parents), (scale, children)):
        mine = out_pos[..., 0] == level
        corners = pick(out_pos, mine)[..., 1:]
        theirs = raster_order(corners)
        found = proj(norm(rows.feats))
        close(found, take(pick(outputs['feat'], mine), theirs).flatten(0, 1), 1e-4)
        assert torch.equal(rows.xy.long(), take(corners, theirs).flatten(0, 1).long())
        loss = loss + (found * take(pick(ct, mine), theirs).flatten(0, 1)).sum()
    loss.backward()
    close(feats.grad, take(pick(outputs['grad_features'], finest), order).flatten(0, 1), 1e-3)
    close(scores.grad, outputs['grad_scores'].gather(1, order).flatten(), 1e-3)
    close(allocator.embed.position.grad, outputs['grads']['rel_pos_emb'][0], 1e-3)
    close(allocator.embed.scale.grad, outputs['grads']['scale_emb'][0, 0], 1e-3)
    close(
        allocator.embed.image_mlp[3].fc1.weight.grad,
        outputs['grads']['high_res_mlp.fc1.weight'],
        1e-3,
    )
    if 'image_patch_projection.weight' in outputs['grads']:
        close(
            allocator.embed.image_mlp[0].weight.grad,
            outputs['grads']['image_patch_projection.weight'],
            1e-3,
        )
