"""True calls of the ops, public and registered, with random sizes: what :mod:`.fuzz` lies about."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmseg_arta import ops
from mmseg_arta.structures import Neighborhood, TokenSet, offsets_from_lengths

Arguments = dict[str, Any]
Op = tuple[Callable[..., Any], Arguments]

CANVAS = (12, 9)


def _floats(rng: random.Random, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    return torch.randn(shape, generator=generator)


def _below(rng: random.Random, least: int, most: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    return torch.randint(least, max(most, least + 1), shape, generator=generator)


def _lengths(rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.choice((0, 1, 2, 5, 9, 17)) for _ in range(rng.randint(1, 3)))


def _tokens(rng: random.Random) -> Arguments:
    """Tokens on the canvas, in any order."""
    lengths = _lengths(rng)
    total = sum(lengths)
    places = (_below(rng, 0, CANVAS[1], total), _below(rng, 0, CANVAS[0], total))
    batch = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    return dict(xy=torch.stack(places, 1).int(), batch=batch, counts=torch.tensor(lengths))


def _neighborhood(rng: random.Random) -> Neighborhood:
    given = _tokens(rng)
    lengths = tuple(given['counts'].tolist())
    return ops.build_neighborhood(
        **given,
        lengths=lengths,
        canvas=CANVAS,
        cluster_size=rng.choice((1, 3, 8, 11)),
        num_neighbors=rng.choice((1, 3, 6)),
    )


def _attention(rng: random.Random) -> tuple[Arguments, Neighborhood]:
    hood = _neighborhood(rng)
    heads, dim, total = rng.randint(0, 3), rng.choice((1, 3, 8, 16, 24)), len(hood.xy)
    return dict(
        q=_floats(rng, total, heads, dim),
        kv=_floats(rng, total, heads, 2, dim),
        bias_weight=_floats(rng, heads, 5),
        bias_bias=_floats(rng, heads),
        blank_k=_floats(rng, heads, dim),
        blank_v=_floats(rng, heads, dim),
    ), hood


def _deform(rng: random.Random) -> Arguments:
    values, queries, heads = rng.randint(0, 20), rng.randint(0, 9), rng.randint(0, 3)
    levels, points, k, images = (rng.randint(least, 3) for least in (0, 0, 0, 1))
    return dict(
        value=_floats(rng, values, heads, rng.choice((0, 1, 3, 8, 16, 24))),
        centers=_floats(rng, values, 2) * 5,
        nearest=_below(rng, -1, values, levels, images, 4, 5, k),
        batch=_below(rng, 0, images, queries),
        location=_floats(rng, queries, heads, levels, points, 2) * 5,
        weight=_floats(rng, queries, heads, levels, points),
        power=torch.tensor([1.7]),
    )


def _merge(rng: random.Random) -> Arguments:
    values, places, k, sets = (rng.randint(0, 9) for _ in range(4))
    return dict(
        feats=_floats(rng, values, rng.choice((0, 1, 8, 19))),
        rows=_below(rng, -1, values, places, k),
        weights=_floats(rng, places, k, sets),
    )


def _patches(rng: random.Random) -> Arguments:
    images, channels, rows, columns = (rng.randint(1, 3) for _ in range(4))
    size, total = rng.choice((4, 8)), rng.randint(0, 9)
    xy = torch.stack((_below(rng, 0, columns, total), _below(rng, 0, rows, total)), 1)
    return dict(
        image=_floats(rng, images, channels, rows * size, columns * size),
        xy=(xy * (size // 4)).to(rng.choice((torch.int32, torch.int64))),
        batch=_below(rng, 0, images, total),
        patch_size=size,
    )


def _like(rng: random.Random, result: Tensor) -> Tensor:
    return _floats(rng, *result.shape)


def _registered(name: str) -> Callable[..., Any]:
    """An op by names of arguments."""
    return getattr(torch.ops.mmseg_arta, name)


def _trained(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """A public function and its backward pass."""

    def call(train: bool = True, **given: Any) -> Any:
        if not train:
            return function(**given)
        leaves = {
            name: tensor.detach().requires_grad_()
            for name, tensor in given.items()
            if isinstance(tensor, Tensor) and tensor.dtype in (torch.float32, torch.float64)
        }
        out = function(**given | leaves)
        if not out.requires_grad or out.device.type == 'meta':
            return out
        grads = torch.autograd.grad(out, tuple(leaves.values()), out, allow_unused=True)
        return (out.detach(), *(grad for grad in grads if grad is not None))

    return call


def _public_attention(**given: Any) -> Tensor:
    fields = {name: given.pop(name) for name in Neighborhood.__dataclass_fields__}
    return ops.cluster_attention(**given, neighborhood=Neighborhood(**fields))


def public_cluster_attention(rng: random.Random) -> Op:
    tensors, hood = _attention(rng)
    fields = {name: getattr(hood, name) for name in Neighborhood.__dataclass_fields__}
    return _trained(_public_attention), tensors | fields | dict(blank_clamp=5.0)


def _attention_op(rng: random.Random) -> Arguments:
    tensors, hood = _attention(rng)
    return tensors | dict(
        xy=hood.xy,
        start=hood.start,
        neighbors=hood.neighbors,
        cluster_size=hood.cluster_size,
        blank_clamp=5.0,
        backend='cpu',
    )


def cluster_attention(rng: random.Random) -> Op:
    return _registered('cluster_attention'), _attention_op(rng)


def cluster_attention_backward(rng: random.Random) -> Op:
    given = _attention_op(rng)
    out, lse = _registered('cluster_attention')(**given)
    return _registered('cluster_attention_backward'), dict(
        grad_out=_like(rng, out), out=out, lse=lse
    ) | given


def public_point_deform_attention(rng: random.Random) -> Op:
    return _trained(ops.point_deform_attention), _deform(rng) | dict(floor=0.01, eps=1e-6)


def point_deform_attention(rng: random.Random) -> Op:
    given = _deform(rng) | dict(floor=0.01, eps=1e-6, backend='cpu')
    if rng.random() < 0.5:
        return _registered('point_deform_attention'), given
    out = _registered('point_deform_attention')(**given)
    return _registered('point_deform_attention_backward'), dict(grad_out=_like(rng, out)) | given


def public_neighborhood_merge(rng: random.Random) -> Op:
    return _trained(ops.neighborhood_merge), _merge(rng)


def neighborhood_merge(rng: random.Random) -> Op:
    given = _merge(rng) | dict(backend='cpu')
    if rng.random() < 0.5:
        return _registered('neighborhood_merge'), given
    out = _registered('neighborhood_merge')(**given)
    return _registered('neighborhood_merge_backward'), dict(grad_out=_like(rng, out)) | given


def public_gather_patches(rng: random.Random) -> Op:
    return _trained(ops.gather_patches), _patches(rng)


def gather_patches(rng: random.Random) -> Op:
    given = _patches(rng) | dict(backend='cpu')
    if rng.random() < 0.5:
        return _registered('gather_patches'), given
    out = _registered('gather_patches')(**given)
    sizes = zip(('images', 'channels', 'height', 'width'), given.pop('image').shape, strict=True)
    return _registered('gather_patches_backward'), dict(grad_out=_like(rng, out)) | given | dict(
        sizes
    )


def public_balanced_clusters(rng: random.Random) -> Op:
    given = _tokens(rng) | dict(zip(('height', 'width'), CANVAS, strict=True))
    return (
        lambda height, width, **rest: ops.balanced_clusters(canvas=(height, width), **rest),
        given | dict(cluster_size=rng.choice((1, 3, 8))),
    )


def balanced_clusters(rng: random.Random) -> Op:
    _, given = public_balanced_clusters(rng)
    backend = rng.choice(('cpu', 'cpu', 'reference'))
    return _registered('balanced_clusters'), given | dict(backend=backend)


def public_nearest_clusters(rng: random.Random) -> Op:
    hood = _neighborhood(rng)
    return ops.nearest_clusters, dict(
        xy=hood.xy,
        start=hood.start,
        lengths=hood.lengths,
        cluster_size=hood.cluster_size,
        num_neighbors=rng.randint(1, 9),
    )


def nearest_clusters(rng: random.Random) -> Op:
    _, given = public_nearest_clusters(rng)
    backend = rng.choice(('cpu', 'cpu', 'reference'))
    return _registered('nearest_clusters'), given | dict(backend=backend)


def _search(rng: random.Random) -> Arguments:
    lengths = _lengths(rng)
    counts = tuple(rng.randint(0, 9) for _ in lengths)
    return dict(
        places=_floats(rng, sum(counts), 2) * 9,
        centers=(_floats(rng, sum(lengths), 2) * 9).round(),
        place_lengths=counts,
        lengths=lengths,
        k=rng.randint(1, 9),
    )


def _public_search(places, place_lengths, k, **level: Any) -> Tensor:
    return ops.nearest_tokens(places, place_lengths, TokenSet(**level), k).rows


def public_nearest_tokens(rng: random.Random) -> Op:
    given = _search(rng)
    centers, lengths = given.pop('centers'), given['lengths']
    return _public_search, given | dict(
        feats=_floats(rng, len(centers), 3),
        xy=centers.int(),
        offsets=offsets_from_lengths(lengths, torch.device('cpu')),
        patch_size=rng.choice((4, 16)),
        grid=CANVAS,
    )


def nearest_tokens(rng: random.Random) -> Op:
    backend = rng.choice(('cpu', 'cpu', 'reference'))
    return _registered('nearest_tokens'), _search(rng) | dict(backend=backend)


def public_class_scores(rng: random.Random) -> Op:
    images, queries, rows, columns = (rng.randint(1, 4) for _ in range(4))
    cell = rng.choice((1, 4))
    return (
        lambda height, width, **rest: ops.class_scores(size=(height, width), **rest),
        dict(
            class_probs=_floats(rng, images, queries, 3),
            mask_logits=_floats(rng, images, queries, rows, columns),
            cell=cell,
            height=rng.randint(1, rows * cell),
            width=rng.randint(1, columns * cell),
        ),
    )


def mask_probabilities(rng: random.Random) -> Op:
    queries, rows, columns = (rng.randint(1, 4) for _ in range(3))
    cell, strips = rng.choice((1, 4)), rng.randint(1, 3)
    first = rng.randint(0, rows * cell)
    return _registered('mask_probabilities'), dict(
        mask_logits=_floats(rng, queries, rows, columns),
        cell=cell,
        first=first,
        rows=rng.randint(0, rows * cell - first),
        width=rng.randint(0, columns * cell // strips) * strips,
        strips=strips,
        backend='cpu',
    )


OPS: tuple[Callable[[random.Random], Op], ...] = (
    *(public_cluster_attention, cluster_attention, cluster_attention_backward),
    *(public_point_deform_attention, point_deform_attention),
    *(public_neighborhood_merge, neighborhood_merge, public_gather_patches, gather_patches),
    *(public_balanced_clusters, balanced_clusters, public_nearest_clusters, nearest_clusters),
    *(public_nearest_tokens, nearest_tokens, public_class_scores, mask_probabilities),
)
