"""Calls the ops with arguments of which some lie: ``python tests/ops/fuzz.py --help``.

Every case follows from a seed and its number. What must not happen: that the process ends or hangs,
that memory comes back which nobody has written, or that an error does not name an argument.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import math
import os
import random
import re
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmseg_arta import ops
from mmseg_arta.ops import library
from mmseg_arta.structures import Neighborhood, TokenSet, offsets_from_lengths

Arguments = dict[str, Any]
Op = tuple[Callable[..., Any], Arguments]

#: Numbers where counting goes wrong.
EXTREMES = (
    *(0, -1, -2, 1, 2, 3, 5, 7, -1000, 10**6, 1 << 20, (1 << 31) - 1, 1 << 31, -(1 << 31)),
    *(1 << 32, -(1 << 32), 1 << 61, 1 << 62, (1 << 63) - 1, -(1 << 63)),
)
#: No number on the host is one of these to PyTorch.
BEYOND = (1 << 63, -(1 << 63) - 1)
STRANGE = (math.nan, math.inf, -math.inf, 1e38, -1e38, 1e-45, -1.0, 0.0)
TYPES = (
    *(torch.complex64, torch.complex128, torch.bool, torch.float16, torch.bfloat16),
    *(torch.float64, torch.float32, torch.int8, torch.uint8, torch.int32, torch.int64),
)
CANVAS = (12, 9)

#: Cases until another instruction set takes its turn.
EACH = 170

#: What is an answer to a lie.
ERRORS = (ValueError, IndexError, TypeError, RuntimeError, MemoryError, NotImplementedError)
# Too much memory is nobody's fault but that of the sizes.
_NO_MEMORY = re.compile("can't allocate memory|not enough memory|could not get memory|overflow")


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


def _other_numbers(rng: random.Random, tensor: Tensor) -> Tensor:
    """Some numbers, or all, are what they must not be; or fall where they should rise."""
    if not tensor.numel() or tensor.dtype == torch.bool or tensor.is_complex():
        return tensor
    if tensor.is_floating_point():
        value: float = rng.choice(STRANGE)
    else:
        info = torch.iinfo(tensor.dtype)
        value = rng.choice([n for n in EXTREMES if info.min <= n <= info.max])
    changed = tensor.clone()
    way = rng.randrange(4)
    if way == 0:
        return changed.fill_(value)
    if way == 1:
        return changed.flip(0)
    flat = changed.view(-1)
    for _ in range(way - 1):
        flat[rng.randrange(len(flat))] = value
    return changed


def _other_shape(rng: random.Random, tensor: Tensor) -> Tensor:
    way = rng.randrange(8)
    if way == 0:
        return tensor.unsqueeze(rng.randint(0, tensor.ndim))
    if way == 1:
        return tensor.flatten()
    if way == 2 and tensor.ndim:
        return tensor.narrow(0, 0, max(tensor.shape[0] - 1, 0))
    if way == 3 and tensor.ndim:
        return tensor.narrow(rng.randrange(tensor.ndim), 0, 0)
    if way == 4 and tensor.ndim > 1:
        return tensor.transpose(-1, -2)
    if way == 5:
        return torch.cat((tensor, tensor[:1]))
    if way == 6:
        # No numbers, and any number of them.
        shape = list(tensor.shape)
        empty, giant = rng.randrange(len(shape)), rng.randrange(len(shape))
        shape[giant], shape[empty] = rng.choice((1 << 31, 1 << 40)), 0
        return tensor.new_empty(shape)
    return torch.stack((tensor, tensor), -1)[..., 0]  # this one is no lie


def _lie(rng: random.Random, value: Any) -> Any:
    """Something else in an argument's place."""
    if isinstance(value, Tensor):
        way = rng.randrange(10)
        if way == 0:
            return value.to('meta')
        if way == 1:
            return value.to(rng.choice(TYPES))
        return (_other_shape if way < 5 else _other_numbers)(rng, value)
    if isinstance(value, tuple):
        changed = list(value)
        way = rng.randrange(4)
        if way == 0 or not changed:
            changed.append(rng.choice(EXTREMES))
        elif way == 1:
            changed.pop(rng.randrange(len(changed)))
        else:
            changed[rng.randrange(len(changed))] = rng.choice((*EXTREMES, *BEYOND))
        return tuple(changed)
    if isinstance(value, str):
        return rng.choice(('gpu', '', 'reference', 'cpu\0'))
    if isinstance(value, float):
        return rng.choice(STRANGE)
    return rng.choice((*EXTREMES, *BEYOND))


@dataclass
class Report:
    """What came of the cases.

    Attributes:
        answered: by op, how often it returned without a lie, and with one.
        errors: by op and kind, how often it raised.
        faults: what must not be.
    """

    answered: collections.Counter = field(default_factory=collections.Counter)
    errors: collections.Counter = field(default_factory=collections.Counter)
    faults: list[str] = field(default_factory=list)


def _results(found: Any) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found]
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


def _unwritten(given: Arguments, found: Any) -> bool:
    """Whether results hold what new memory is filled with, though no argument does."""
    tensors = [t for t in given.values() if isinstance(t, Tensor) and t.device.type != 'meta']
    finite = all(
        bool(t.isfinite().all()) and float(t.abs().amax()) < 1e30
        for t in tensors
        if t.is_floating_point() and t.numel()
    ) and not any(isinstance(v, float) and not v < 1e30 for v in given.values())
    for result in _results(found):
        if result.device.type == 'meta' or not result.numel():
            continue
        if result.is_floating_point() and finite and bool(result.isnan().any()):
            return True
        if result.dtype == torch.int64 and int(result.max()) == torch.iinfo(torch.int64).max:
            return True
    return False


def run(number: int, seed: int, report: Report) -> None:
    """One case."""
    rng = random.Random(seed * 1_000_003 + number)
    make = OPS[number % len(OPS)]
    function, given = make(rng)
    lies = []
    for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 3))):
        name = rng.choice(list(given))
        lies.append(name)
        try:
            given = given | {name: _lie(rng, given[name])}
        except RuntimeError:
            lies.pop()  # PyTorch does not make such a tensor
    where = f'case {number} of seed {seed}: {make.__name__} with lies about {lies or "nothing"}'
    try:
        found = function(**given)
    except ERRORS as error:
        message = f'{type(error).__name__}: {error}'
        report.errors[make.__name__, type(error).__name__] += 1
        if not lies:
            report.faults.append(f'{where}: {message}')
        elif not (
            any(re.search(rf'\b{name}\b', message) for name in (*given, 'canvas', 'size'))
            or _NO_MEMORY.search(message)
        ):
            report.faults.append(f'{where}: names no argument: {message}')
        return
    report.answered[make.__name__, bool(lies)] += 1
    if _unwritten(given, found):
        report.faults.append(f'{where}: returned memory that nobody has written')


def run_all(
    count: int, seed: int = 0, seconds: float = math.inf, first: int = 0, most_faults: int = 20
) -> tuple[int, Report]:
    """Cases ``first`` and so on, in memory that is filled before.

    Returns:
        how many were run, and what came of them.
    """
    report, begin, number = Report(), time.monotonic(), first
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        for number in range(first, first + count):
            run(number, seed, report)
            if len(report.faults) >= most_faults or time.monotonic() - begin > seconds:
                break
    finally:
        torch.use_deterministic_algorithms(was)
    return number + 1 - first, report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python tests/ops/fuzz.py', description=__doc__)
    parser.add_argument('--count', type=int, default=100_000, help='cases (default: %(default)s)')
    parser.add_argument('--first', type=int, default=0, help='number of the first case')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--seconds', type=float, default=math.inf, help='stop after so long')
    parser.add_argument('--library', type=Path, help='C++ library (default: the built one)')
    parser.add_argument('--memory', type=int, default=0, help='GiB that the process may take')
    args = parser.parse_args(arguments)
    if args.library:
        library.cpu.path = args.library.resolve()
    library.cpu.loaded()
    if args.memory:
        resource.setrlimit(resource.RLIMIT_AS, (args.memory << 30,) * 2)
    torch.set_num_threads(2)
    sets = [name for name in ('base', 'avx2', 'avx512') if library.cpu.use(name)]
    done, report = 0, Report()
    begin = time.monotonic()
    with tempfile.NamedTemporaryFile(prefix='fuzz-', delete=False) as place:
        while done < args.count and time.monotonic() - begin < args.seconds:
            # A process that dies leaves where it was; one that hangs is ended.
            faulthandler.dump_traceback_later(120, exit=True)
            os.pwrite(place.fileno(), f'seed {args.seed}, {args.first + done} and on\n'.encode(), 0)
            library.cpu.use(sets[done // EACH % len(sets)])
            some, found = run_all(min(EACH, args.count - done), args.seed, first=args.first + done)
            done += some
            report.answered += found.answered
            report.errors += found.errors
            report.faults += found.faults
            if len(report.faults) >= 20:
                break
    faulthandler.cancel_dump_traceback_later()
    os.unlink(place.name)
    for name in dict.fromkeys(op for op, _ in (*report.answered, *report.errors)):
        plain, lied = (report.answered[name, lie] for lie in (False, True))
        errors = {kind: n for (op, kind), n in sorted(report.errors.items()) if op == name}
        print(f'{name}: answered {plain} without and {lied} with lies; errors {errors}')
    print('\n'.join(report.faults))
    print(
        f'{done} cases of seed {args.seed} in {time.monotonic() - begin:.0f} s: '
        f'{len(report.faults)} faults'
    )
    return bool(report.faults) or done < min(args.count, 1)


if __name__ == '__main__':
    raise SystemExit(main())
