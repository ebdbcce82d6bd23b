"""How forward time and memory per image grow with the number of tokens.

Runs ARTA and AutoFocusFormer with random weights on random images of growing size, one image at a
time, and fits ``time = c * tokens ** exponent``: an exponent near 1 means linear growth.

    python benchmarks/scaling.py                    # 256 to 1536 px, smallest sizes of both models
    python benchmarks/scaling.py --quick            # 256 to 512 px, once
    python benchmarks/scaling.py --device cuda --models aff-small arta-base --out scaling.json

ARTA and DUPS give the same shares of their tokens finer ones whatever the image, so that sizes can
be compared. On a CPU every measurement has a process of its own, so that its peak of memory does
not hide behind an earlier one's.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.measure import machine, synchronize
from mmseg_arta.analysis.benchmark.memory import PeakMemory
from mmseg_arta.command_line import Parser, check_shape, run_command, whole
from mmseg_arta.files import check_writable, write_text
from mmseg_arta.models.backbones.mixed_encoder import MixedResolutionEncoder
from mmseg_arta.option_checks import MOST_PIXELS
from mmseg_arta.structures import MixedTokens

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
FAMILIES = ('aff', 'arta', 'dups')
SIZES = (256, 384, 512, 768, 1024, 1280, 1536)
QUICK_SIZES = (256, 384, 512)
PARTS = ('backbone', 'segmentor')
# Of ADE20K crops with boundaries in about every second 32 px patch.
_SHARES = (0.5, 0.5, 0.5)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser('scaling', description=__doc__)
    parser.add_argument(
        '--models',
        nargs='+',
        default=['aff-mini', 'arta-tiny'],
        metavar='NAME',
        help='<name> of <name>_mask2former_*_ade20k-512x512 configs (default: aff-mini arta-tiny)',
    )
    parser.add_argument(
        '--sizes',
        type=whole(1, MOST_PIXELS),
        nargs='+',
        metavar='PX',
        help='sides of square images in pixels',
    )
    parser.add_argument(
        '--parts', nargs='+', choices=PARTS, default=list(PARTS), help='what to run (default: both)'
    )
    parser.add_argument(
        '--device',
        choices=('cpu', 'cuda'),
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='where to run (default: cuda if there is one)',
    )
    parser.add_argument('--threads', type=whole(), help='CPU threads (default: as PyTorch chooses)')
    parser.add_argument(
        '--repeats', type=whole(), help='timed runs; the median counts (default: 5)'
    )
    parser.add_argument(
        '--quick', action='store_true', help=f'sizes {QUICK_SIZES} px, a single timed run'
    )
    parser.add_argument(
        '--same-process', action='store_true', help='measure everything in this process'
    )
    parser.add_argument('--out', type=Path, metavar='JSON', help='write the results to this file')
    args = parser.parse_args(argv)
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device: expected a machine with a CUDA device, found none')
    args.sizes = args.sizes or (QUICK_SIZES if args.quick else SIZES)
    args.repeats = args.repeats or (1 if args.quick else 5)
    try:
        for name in args.models:
            find_config(name)
        for size in args.sizes:
            check_shape((size, size), option='--sizes')
        if args.out:
            check_writable('--out', args.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return args


def find_config(name: str) -> Path:
    """The ADE20K config of a model.

    Raises:
        FileNotFoundError: if there is no config of that name.
    """
    known = {
        path.name.partition('_')[0]: path
        for family in FAMILIES
        for path in sorted(CONFIGS.glob(f'{family}/*_mask2former_*_ade20k-512x512.py'))
    }
    if name not in known:
        raise FileNotFoundError(
            f'--models: expected some of {", ".join(sorted(known))}, found {name!r}'
        )
    return known[name]


def build(name: str) -> nn.Module:
    """The segmentor of an ADE20K config, see :func:`find_config`, with random weights."""
    init_default_scope('mmseg')
    config = Config.fromfile(find_config(name)).model.to_dict()
    # Stock code would read pixels' statistics from it; images here are normalised already.
    config.update(data_preprocessor=None)
    if issubclass(MODELS.get(config['backbone']['type']), MixedResolutionEncoder):
        config['backbone']['allocation'] = dict(type='FixedRatioAllocation', ratios=_SHARES)
    torch.manual_seed(0)
    return MODELS.build(config).eval()


@torch.inference_mode()
def measure(
    name: str, part: str, size: int, repeats: int, device: str, threads: int | None
) -> dict[str, Any]:
    """Time, memory and tokens of a forward pass of one square image.

    Args:
        name: of the model, see :func:`build`.
        part: one of :data:`PARTS`; the segmentor includes the backbone and ends with class
            scores for every pixel.
        size: side of the image in pixels.
        repeats: timed runs after one that is not.
        device: 'cpu' or 'cuda'.
        threads: CPU threads, None to leave them.

    Returns:
        ``tokens`` of all levels, ``seconds`` (median), ``cpu_seconds`` of all threads (CPU only,
        median; not disturbed by other programs), ``peak_mib`` above what the model itself takes
        (None where it cannot be read).
    """
    if threads:
        torch.set_num_threads(threads)
    model = build(name).to(device)
    image = torch.randn(1, 3, size, size, device=device)

    def run() -> MixedTokens:
        tokens = model.backbone(image)
        if part == 'segmentor':
            model.decode_head.predict(tokens, [dict(img_shape=(size, size))], {})
        return tokens

    # The first run also loads what is loaded once; a small image does not raise the peak.
    small = image[..., :64, :64].contiguous()
    model.backbone(small)
    memory = PeakMemory(torch.device(device))
    before = memory.held()
    known = memory.reset() and before is not None
    tokens = run()
    used = (memory.read() - before) / 2**20 if known else None
    wall, busy = [], []
    for _ in range(repeats):
        synchronize(device)
        begin, cpu = time.perf_counter(), time.process_time()
        run()
        synchronize(device)
        wall.append(time.perf_counter() - begin)
        busy.append(time.process_time() - cpu)
    return dict(
        model=name,
        part=part,
        size=size,
        tokens=sum(sum(counts) for counts in tokens.tokens_per_image()),
        seconds=statistics.median(wall),
        cpu_seconds=statistics.median(busy) if device == 'cpu' else None,
        peak_mib=used,
    )


def exponent(tokens: Sequence[float], seconds: Sequence[float]) -> float:
    """Least-squares exponent of ``seconds = c * tokens ** exponent``.

    Raises:
        ValueError: for fewer than two different numbers of tokens.
    """
    x, y = [math.log(value) for value in tokens], [math.log(value) for value in seconds]
    if len(set(x)) < 2:
        raise ValueError(f'a fit needs at least two different numbers of tokens, found {tokens}')
    middle = statistics.fmean(x)
    rise = sum((a - middle) * b for a, b in zip(x, y, strict=True))
    return rise / sum((a - middle) ** 2 for a in x)


def fits(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Exponents of every model and part: time, and memory where it was read."""
    found = []
    for model, part in dict.fromkeys((row['model'], row['part']) for row in results):
        rows = [row for row in results if (row['model'], row['part']) == (model, part)]
        tokens = [row['tokens'] for row in rows]
        fit: dict[str, Any] = dict(model=model, part=part)
        for key in ('seconds', 'cpu_seconds', 'peak_mib'):
            values = [row[key] for row in rows]
            known = len(set(tokens)) > 1 and all(
                value is not None and value > 0 for value in values
            )
            fit[f'{key}_exponent'] = exponent(tokens, values) if known else None
        found.append(fit)
    return found


def run(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    if args.threads:
        torch.set_num_threads(args.threads)
    results = []
    print(
        f'{"model":<12} {"part":<10} {"px":>5} {"tokens":>8} {"s/image":>9} {"cpu s":>9} {"MiB":>8}'
    )
    for name in args.models:
        for part in args.parts:
            for size in args.sizes:
                job = (name, part, size, args.repeats, args.device, args.threads)
                if args.same_process or args.device != 'cpu':
                    row = measure(*job)
                else:
                    fresh = multiprocessing.get_context('spawn')
                    # Ctrl-C reaches this process as well; it ends without a word.
                    silent = (signal.SIGINT, signal.SIG_DFL)
                    with ProcessPoolExecutor(1, fresh, signal.signal, silent) as process:
                        row = process.submit(measure, *job).result()
                results.append(row)
                print(
                    f'{name:<12} {part:<10} {size:>5} {row["tokens"]:>8} {row["seconds"]:>9.3f} '
                    f'{_text(row["cpu_seconds"], 3):>9} {_text(row["peak_mib"], 0):>8}',
                    flush=True,
                )
    summary = fits(results)
    for fit in summary:
        print(
            f'{fit["model"]}, {fit["part"]}: time ~ tokens^{_text(fit["seconds_exponent"], 2)}'
            f' (cpu time ^{_text(fit["cpu_seconds_exponent"], 2)}, '
            f'memory ^{_text(fit["peak_mib_exponent"], 2)})'
        )
    if args.out:
        record = dict(machine=machine(args.device), results=results, fits=summary)
        write_text(args.out, json.dumps(record, indent=1) + '\n')
        print(f'written to {args.out}')


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    return run_command('scaling', lambda: run(args))


def _text(value: float | None, digits: int) -> str:
    return '-' if value is None else f'{value:.{digits}f}'


if __name__ == '__main__':
    sys.exit(main())
