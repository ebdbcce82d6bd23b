"""Inference on a CPU: models as they are, and prepared for it.

    python benchmarks/cpu_inference.py [--models arta lrformer segvit] [--size H W]

Times of all variants of a model interleaved in one process, on one thread, as ratios to the model
as it is; peak memory of each in a process of its own.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import measure
from benchmarks.models import ALLOCATIONS, CONFIGS, arta, forward_of

DENSE = {
    'lrformer': 'lrformer/lrformer-s_lrhead_4xb4-160k_ade20k-512x512.py',
    'segvit': 'segvit/segvit_vit-b16_8xb2-160k_ade20k-512x512.py',
}
VARIANTS = ('plain', 'prepared')


def build(name: str, allocation: str) -> nn.Module:
    """A model with random weights."""
    if name == 'arta':
        return arta(ALLOCATIONS[allocation], quick=False)
    from mmengine.config import Config
    from mmseg.registry import MODELS

    config = Config.fromfile(CONFIGS / DENSE[name]).model
    config.pop('data_preprocessor', None)
    config.backbone.init_cfg = None
    torch.manual_seed(0)
    return MODELS.build(config).eval()


def variant(model: nn.Module, name: str) -> nn.Module:
    """A copy of a model, prepared as named."""
    from mmseg_arta.engine import prepare_for_cpu_inference

    model = copy.deepcopy(model)
    return prepare_for_cpu_inference(model) if name == 'prepared' else model


def peak(model: str, allocation: str, name: str, size: tuple[int, int]) -> int:
    """Bytes that a process has resident at most while it builds the model and predicts twice."""
    job = json.dumps([model, allocation, name, size])
    command = [sys.executable, __file__, '--peak-of', job]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def print_peak(model: str, allocation: str, name: str, size: tuple[int, int]) -> None:
    call = forward_of(
        variant(build(model, allocation), name), torch.randn(1, 3, *size), torch.float32
    )
    call()
    call()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--models', nargs='+', default=['arta'], choices=['arta', *DENSE])
    parser.add_argument('--allocations', nargs='+', default=list(ALLOCATIONS), choices=ALLOCATIONS)
    parser.add_argument('--size', type=int, nargs=2, action='append', help='height and width')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--out', type=Path, default=measure.RESULTS, help='folder for the JSON')
    parser.add_argument('--peak-of', help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if args.peak_of:
        print_peak(*json.loads(args.peak_of))
        return
    head = ['model', 'size', 'allocation', 'variant', 'time / plain', 'memory / plain']
    rows, results = [head], []
    measure.PATIENCE = 60.0
    for model in args.models:
        for size in map(tuple, args.size or [(512, 512)]):
            for allocation in args.allocations if model == 'arta' else ['-']:
                built, image = build(model, allocation), torch.randn(1, 3, *size)
                calls = {
                    name: forward_of(variant(built, name), image, torch.float32)
                    for name in VARIANTS
                }
                times = measure.interleaved(calls, 'cpu', args.rounds)
                peaks = {name: peak(model, allocation, name, size) for name in VARIANTS}
                for name in VARIANTS:
                    time = times[name] / times['plain']
                    memory = peaks[name] / peaks['plain']
                    where = ['{}x{}'.format(*size), allocation, name]
                    rows.append([model, *where, f'{time:.2f}', f'{memory:.2f}'])
                    results.append(
                        {
                            'model': model,
                            'size': list(size),
                            'allocation': allocation,
                            'variant': name,
                            'seconds': times[name],
                            'time to plain': time,
                            'peak memory': peaks[name],
                            'memory to plain': memory,
                        }
                    )
    print(measure.table(rows))
    print(f'\n{measure.write("cpu-inference", "cpu", "float32", {"models": results}, args.out)}')


if __name__ == '__main__':
    main()
