from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import build_neighborhood, cluster_attention
from tests.helpers import mixed_places

CANVAS = (24, 40)


def make(lengths, heads=2, dim=8, neighbors=3, dtype=torch.float64):
    xy, batch, counts = mixed_places(lengths, CANVAS)
    hood = build_neighborhood(xy, batch, counts, lengths, CANVAS, num_neighbors=neighbors)
    total = sum(lengths)
    tensors = [
        torch.randn(shape, dtype=dtype, requires_grad=True)
        for shape in (
            (total, heads, dim),
            (total, heads, 2, dim),
            (heads, 5),
            (heads,),
            (heads, dim),
            (heads, dim),
        )
    ]
    return tensors, hood


def plain(q, kv, weight, bias, blank_k, blank_v, hood, clamp=5.0):
    """The definition, token by token."""
    out = []
    for row in range(q.shape[0]):
        members = [
            m
            for c in hood.neighbors[row].tolist()
            if c >= 0
            for m in range(int(hood.start[c]), int(hood.start[c + 1]))
        ]
        delta = (hood.xy[members] - hood.xy[row]).to(q.dtype)
        dist = delta.norm(dim=1)
        sin = torch.where(dist > 0, delta[:, 1] / dist, 0)
        cos = torch.where(dist > 0, delta[:, 0] / dist, 0)
        feats = torch.stack((delta[:, 0], delta[:, 1], dist, sin, cos), 1)
        scaled = q[row] / q.shape[2] ** 0.5
        logits = torch.einsum('hd,mhd->mh', scaled, kv[members, :, 0]) + feats @ weight.T + bias
        blank = (scaled * blank_k).sum(-1)
        blank = blank if clamp is None else blank.clamp(-clamp, clamp)
        p = torch.cat((logits, blank[None])).softmax(0)
        out.append(torch.einsum('mh,mhd->hd', p[:-1], kv[members, :, 1]) + p[-1][:, None] * blank_v)
    return torch.stack(out)


@pytest.mark.parametrize('lengths', [(40, 7, 63), (1,), (0, 9), (9, 8)], ids=str)
@pytest.mark.parametrize('clamp', [5.0, 0.1, None])
def test_matches_the_definition(lengths, clamp):
    tensors, hood = make(lengths)
    found = cluster_attention(*tensors, hood, blank_clamp=clamp)
    torch.testing.assert_close(found, plain(*tensors, hood, clamp=clamp))


def test_gradients():
    tensors, hood = make((11, 2), heads=1, dim=2, neighbors=2)
    torch.autograd.gradcheck(lambda *t: cluster_attention(*t, hood), tensors)


def test_no_tokens_still_reach_every_parameter():
    tensors, hood = make((0, 0))
    out = cluster_attention(*tensors, hood)
    assert out.shape == (0, 2, 8)
    out.sum().backward()
    assert all(t.grad is not None and not t.grad.any() for t in tensors)


def test_an_image_does_not_see_another():
    tensors, hood = make((30, 30))
    before = cluster_attention(*tensors, hood)
    with torch.no_grad():
        tensors[1][30:] += 1  # keys and values of the second image
    after = cluster_attention(*tensors, hood)
    assert torch.equal(before[:30], after[:30]) and not torch.equal(before[30:], after[30:])


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_parameters_may_have_more_digits(backend, cpu_kernels, monkeypatch):
    tensors, hood = make((30,))
    expected = cluster_attention(*tensors, hood)
    monkeypatch.setenv('MMSEG_ARTA_OPS', backend)
    q, kv, *rest = tensors
    found = cluster_attention(q.bfloat16(), kv.bfloat16(), *(t.float() for t in rest), hood)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=0.2)


def test_shapes_are_checked():
    tensors, hood = make((9,))
    with pytest.raises(ValueError, match='kv must be'):
        cluster_attention(tensors[0], tensors[1][:, :, :1], *tensors[2:], hood)
    with pytest.raises(ValueError, match='neighborhood holds 9 tokens'):
        cluster_attention(tensors[0][:8], tensors[1][:8], *tensors[2:], hood)
