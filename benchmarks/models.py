"""Times ARTA-Tiny whole with each back end of the ops, and tells where its time goes.

How models compare with each other is measured by ``tools/benchmark.py``.

    python benchmarks/models.py [--device cuda] [--dtype bfloat16] [--shares] [--quick] ...

With ``--shares`` (CPU only) it tells what share of a forward pass the custom ops take, at what rate
the rest computes compared with plain linear layers of the same sizes, and how much memory cluster
attention takes beyond its inputs and outputs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import measure
from benchmarks.ops import DEVICES, on
from mmseg_arta.analysis.benchmark.memory import PeakMemory
from mmseg_arta.analysis.devices import check_device
from mmseg_arta.command_line import Parser, check_shape, run_command, whole
from mmseg_arta.files import check_folder
from mmseg_arta.option_checks import MOST_PIXELS

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
SIZES = ((512, 512), (1024, 2048))
ALLOCATIONS = {
    'full': dict(type='FullAllocation'),
    '30 %': dict(type='FixedRatioAllocation', ratios=(0.3, 0.3, 0.3)),
}
_SEARCH = ('balanced_clusters', 'nearest_clusters', 'nearest_tokens')
_INDEX = ('aten.sort', 'aten.searchsorted', 'aten.scatter', 'aten.cumsum', 'aten.index_put_')
_LINEAR = ('aten.addmm', 'aten.mm')
_RUNS = 3


def arta(allocation: dict[str, Any], quick: bool) -> nn.Module:
    """ARTA-Tiny, or the nano one, with Mask2Former and random weights."""
    from mmengine.config import Config
    from mmseg.registry import MODELS

    import mmseg_arta  # noqa: F401

    name = (
        'arta-nano_mask2former_1xb4-2k_camvid-256x256.py'
        if quick
        else 'arta-tiny_mask2former_4xb8-80k_ade20k-512x512.py'
    )
    config = Config.fromfile(CONFIGS / 'arta' / name).model
    config.backbone.allocation = allocation
    config.pop('data_preprocessor', None)
    torch.manual_seed(0)
    return MODELS.build(config).eval()


def forward_of(model: nn.Module, image: Tensor, dtype: torch.dtype) -> Callable[[], Tensor]:
    shape = tuple(image.shape[2:])
    meta = dict(img_shape=shape, ori_shape=shape, pad_shape=shape)
    metas = [meta] * image.shape[0]
    device = image.device.type

    def call() -> Tensor:
        with torch.no_grad(), torch.autocast(device, dtype, enabled=dtype != torch.float32):
            return model.encode_decode(image, metas)

    return call


def compare(
    device: str, dtype: torch.dtype, quick: bool, batch: int, sizes: Sequence[tuple[int, int]]
) -> list[dict[str, Any]]:
    """Frames per second and peak memory with all back ends, interleaved."""
    from mmseg_arta.ops import available_backends
    from mmseg_arta.ops.backend import device_of

    reasons = available_backends()
    backends = [
        b for b in reasons if b == 'reference' or (not reasons[b] and device_of(b) == device)
    ]
    results = []
    for size in sizes:
        image = torch.randn(batch, 3, *size, device=device)
        calls: dict[str, Callable[[], object]] = {}
        for name, allocation in ALLOCATIONS.items():
            model = arta(allocation, quick).to(device)
            for backend in backends:
                calls[f'ARTA, {name}, {backend}'] = on(backend, forward_of(model, image, dtype))
        times = measure.interleaved(calls, device, 3)
        slowest = times['ARTA, full, reference']
        for name, call in calls.items():
            results.append(
                {
                    'size': list(size),
                    'model': name,
                    'frames per second': batch / times[name],
                    'times reference': slowest / times[name],
                    'peak memory': peak_memory(call, device),
                }
            )
    return results


def peak_memory(call: Callable[[], object], device: str) -> int | None:
    """Bytes above what was held before, at most during a call."""
    memory = PeakMemory(torch.device(device))
    memory.trim()
    before = memory.held()
    if not memory.reset() or before is None:
        return None
    call()
    return memory.read() - before


class OpTimes(TorchDispatchMode):
    """Processor time of every op, which other programs do not disturb, and sizes of products."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: Counter[str] = Counter()
        self.products: list[tuple[int, int, int]] = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        begin = time.process_time()
        out = op(*args, **(kwargs or {}))
        name = str(op.overloadpacket)
        self.seconds[name] += time.process_time() - begin
        if name in _LINEAR:
            x = args[0 if name == 'aten.mm' else 1]
            self.products.append((x.numel() // x.shape[-1], x.shape[-1], out.shape[-1]))
        return out


def shares(size: tuple[int, int], allocation: str, quick: bool) -> dict[str, Any]:
    """Where the time of a forward pass on the CPU goes; one thread."""
    model = arta(ALLOCATIONS[allocation], quick)
    call = forward_of(model, torch.randn(1, 3, *size), torch.float32)
    call()
    measured = []
    for _ in range(_RUNS):
        with OpTimes() as times:
            call()
        measured.append(times)
    times = min(measured, key=lambda one: sum(one.seconds.values()))
    with FlopCounterMode(display=False) as counter:
        call()
    flops = counter.get_flop_counts()['Global']
    macs = sum(count // 2 for op, count in flops.items() if not str(op).startswith('mmseg_arta'))
    linear = sum(m * k * n for m, k, n in times.products)
    # The least of some runs: processor time, too, is disturbed by others that use the caches.
    plain_call = plain_linear_layers(times.products)
    runs = [(processor_seconds(call), processor_seconds(plain_call)) for _ in range(_RUNS)]
    total, plain = map(min, zip(*runs, strict=True))
    own = {
        name.removeprefix('mmseg_arta.'): seconds
        for name, seconds in times.seconds.items()
        if name.startswith('mmseg_arta.')
    }
    index = sum(times.seconds[name] for name in _INDEX)
    custom, search = sum(own.values()), sum(own.get(name, 0.0) for name in _SEARCH) + index
    rest = total - custom - index
    return {
        'size': list(size),
        'allocation': allocation,
        'seconds': total,
        'custom ops': custom / total,
        'clusters, neighbours, index': search / total,
        'each op': {name: seconds / total for name, seconds in own.items()},
        'macs of linear layers': linear,
        'macs of all but custom ops': macs,
        # Multiply-accumulates per second: of all but custom ops, and of the linear layers alone,
        # over those of plain linear layers of the same sizes.
        'rest to plain linear layers': (macs / rest) / (linear / plain),
        'linear layers in the model to plain': plain / sum(times.seconds[n] for n in _LINEAR),
        'most time': {name: s / total for name, s in times.seconds.most_common(15)},
    }


def processor_seconds(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


def plain_linear_layers(products: Sequence[tuple[int, int, int]]) -> Callable[[], None]:
    """Runs linear layers of these (rows, inputs, outputs) one after the other.

    Each has weights of its own, as in a model: between two passes they leave the caches.
    """
    weights = [(torch.randn(n, k), torch.randn(n)) for _, k, n in products]
    inputs = {(m, k): torch.randn(m, k) for m, k, _ in products}

    def call() -> None:
        with torch.no_grad():
            for (m, k, _), (weight, bias) in zip(products, weights, strict=True):
                F.linear(inputs[m, k], weight, bias)

    call()
    return call


def attention_memory(size: tuple[int, int]) -> dict[str, Any]:
    """Memory of one pass of cluster attention on all tokens, beside its inputs and outputs."""
    from benchmarks.cases import attention_cases, levels_of

    levels = levels_of(size, 1.0, 1, 'cpu')
    canvas = (size[0] // 4, size[1] // 4)
    case = list(attention_cases(levels, canvas, 3, 'cpu', torch.float32))[-1]
    with torch.no_grad():
        case.call()
        extra = peak_memory(case.call, 'cpu')
    out = case.leaves[0].numel() * 4
    return {'size': list(size), 'inputs and outputs': case.bytes, 'output': out, 'peak': extra}


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser('models', description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--device', choices=DEVICES, help='default: cuda if there is one')
    add('--dtype', default='float32', choices=['float32', 'float16', 'bfloat16'])
    add('--batch', type=whole(), default=2, metavar='N', help='images (default: 2)')
    add('--shares', action='store_true', help='where the time goes (CPU)')
    add('--keep-memory', action='store_true', help='freed memory stays with the process (CPU)')
    add(
        '--avx2', action='store_true', help='use nothing wider, as processors without AVX-512 (CPU)'
    )
    add(
        '--size',
        type=whole(1, MOST_PIXELS),
        nargs=2,
        action='append',
        metavar=('H', 'W'),
        help='height and width',
    )
    add('--quick', action='store_true', help='a small model and image')
    add('--out', type=Path, default=measure.RESULTS, help='folder for the JSON')
    args = parser.parse_args(arguments)
    args.device = args.device or (
        'cuda' if torch.cuda.is_available() and not args.shares else 'cpu'
    )
    if args.shares and args.device != 'cpu':
        parser.error(f'--shares is of the CPU, found --device {args.device}')
    return args


def run(args: argparse.Namespace) -> None:
    """Check, measure, print and write."""
    sizes = ((64, 96),) if args.quick else tuple(map(tuple, args.size or SIZES))
    check_device(args.device)
    check_folder('--out', args.out)
    for size in sizes:
        check_shape(size, args.batch, f'--batch {args.batch} --size')
    if args.avx2:
        measure.hold_to_avx2()
    if args.keep_memory:
        measure.keep_memory()
    if args.shares:
        found = [shares(size, name, args.quick) for size in sizes for name in ALLOCATIONS]
        result = {'shares': found, 'attention memory': [attention_memory(size) for size in sizes]}
        head = ['size', 'allocation', 'seconds', 'custom ops', 'search, index', 'rest / plain']
        rows = [[*head, 'linear / plain']]
        rows += [
            [
                '{}x{}'.format(*r['size']),
                r['allocation'],
                f'{r["seconds"]:.2f}',
                f'{r["custom ops"]:.1%}',
                f'{r["clusters, neighbours, index"]:.1%}',
                f'{r["rest to plain linear layers"]:.2f}',
                f'{r["linear layers in the model to plain"]:.2f}',
            ]
            for r in found
        ]
        name = 'shares'
    else:
        dtype = getattr(torch, args.dtype)
        found = compare(args.device, dtype, args.quick, args.batch, sizes)
        result = {'batch': args.batch, 'models': found}
        rows = [['size', 'model', 'frames/s', 'x reference', 'peak MB']]
        rows += [
            [
                '{}x{}'.format(*r['size']),
                r['model'],
                f'{r["frames per second"]:.2f}',
                f'{r["times reference"]:.2f}',
                '' if r['peak memory'] is None else f'{r["peak memory"] / 1e6:.0f}',
            ]
            for r in found
        ]
        name = 'models'
    print(measure.table(rows))
    name += '-kept-memory' if args.keep_memory else ''
    name += '-avx2' if args.avx2 else ''
    name += '-quick' if args.quick else ''
    print(f'\n{measure.write(name, args.device, args.dtype, result, args.out)}')


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_args(arguments)
    return run_command('models', lambda: run(args))


if __name__ == '__main__':
    sys.exit(main())
