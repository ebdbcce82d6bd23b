"""Attention of heads that are laid end to end first."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmseg_arta.models.layers import multi_head_attention


@pytest.mark.parametrize('keys', [1, 511, 512, 700])
@pytest.mark.parametrize('masked', ['no mask', 'bool', 'numbers'])
def test_attention(keys, masked):
    torch.manual_seed(0)
    q = torch.randn(2, 9, 3, 8).transpose(1, 2)
    k, v = torch.randn(2, keys, 2, 3, 8).permute(2, 0, 3, 1, 4)
    allowed = torch.rand(2, 1, 9, keys) > 0.5
    allowed[..., 0] = True
    mask = {'no mask': None, 'bool': allowed, 'numbers': allowed.float()}[masked]
    logits = (q @ k.transpose(2, 3)).double() / 8**0.5
    if masked == 'bool':
        logits = logits.masked_fill(~allowed, -torch.inf)
    elif masked == 'numbers':
        logits = logits + allowed
    want = logits.softmax(-1) @ v.double()
    with torch.no_grad():
        found = multi_head_attention(q, k, v, mask)
    torch.testing.assert_close(found.double(), want, rtol=1e-4, atol=1e-5)
    q.requires_grad_()
    grad = torch.autograd.grad(multi_head_attention(q, k, v, mask).sum(), q)[0]
    assert grad.shape == q.shape and grad.isfinite().all()


def test_many_keys_are_laid_end_to_end(monkeypatch):
    seen = []
    monkeypatch.setattr(
        F,
        'scaled_dot_product_attention',
        lambda q, k, v, attn_mask: seen.append([t.is_contiguous() for t in (q, k, v)]),
    )
    heads = [torch.randn(1, 512, 2, 8).transpose(1, 2) for _ in range(3)]
    with torch.no_grad():
        multi_head_attention(*heads)
        multi_head_attention(*(t[:, :, :511] for t in heads))
    multi_head_attention(*heads)  # gradients are on
    assert seen == [[True] * 3, [False] * 3, [False] * 3]
