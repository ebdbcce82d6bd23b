"""What merging and halting save in time, against what they save in operations.

One ViT with random weights and four ways to run it, in turn in one process: SegViT's baseline
(second head version), half the tokens halted after a block, dCTS at a given token reduction, and
both. Which groups merge and which tokens halt is forced by injected scores, while policy network
and halting heads run as ever, so the numbers depend on no training. Printed, and written as JSON:
operations, milliseconds, and (measured speed-up - 1) / (speed-up promised by operations - 1).

    python benchmarks/step.py --out step_cpu.json
    python benchmarks/step.py --device cuda --dtype bfloat16 --repeat 20
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import Tensor, nn

import mmseg_arta  # noqa: F401  registers the models
from mmseg_arta.analysis.benchmark.machine import machine
from mmseg_arta.analysis.devices import check_device
from mmseg_arta.analysis.flops.counter import OperatorCounter
from mmseg_arta.command_line import Parser, check_shape, real, run_command, whole
from mmseg_arta.files import check_writable, write_json
from mmseg_arta.models.backbones.step_vit import VIT_ARCHS
from mmseg_arta.option_checks import MOST_CHANNELS, MOST_NUMBER, MOST_PIXELS

WIDTHS = {'base': (768, 384, 12), 'large': (1024, 512, 16)}
THRESHOLD = 0.9
GROUPS = (2, 4, 8, 16)
#: Pixels of the side of the largest group of patches.
SIDE = 256


def build(arch: str, size: int, classes: int, after: int, merge: bool, halt: bool) -> nn.Module:
    """A segmentor of the four kinds, in eval mode."""
    dim, channels, heads = WIDTHS[arch]
    depth = VIT_ARCHS[arch].num_layers
    head = dict(
        in_channels=dim,
        channels=channels,
        num_heads=heads,
        num_classes=classes,
        self_attention=False,
    )
    backbone: dict[str, Any] = dict(type='StepViT', arch=arch, img_size=size)
    if merge:
        backbone['merging'] = dict(
            type='ThresholdMerging', thresholds={str(group): 0.5 for group in GROUPS}
        )
        backbone['policy_net'] = dict(type='GroupPolicyNet', head=dict(group_sizes=GROUPS))
    if halt:
        backbone['out_indices'] = (depth - 1,)
        backbone['halting'] = dict(
            after=(after,),
            head=dict(type='ATMTokenClassifier', **head),
            policy=dict(type='ConfidenceHalting', threshold=THRESHOLD),
        )
        decode_head = dict(type='HaltingATMHead', **head)
    else:
        backbone['out_indices'] = tuple(depth // 3 * n - 1 for n in (1, 2, 3))
        decode_head = dict(type='ATMHead', classes='presence', **head)
    model = nn.ModuleDict(dict(backbone=MODELS.build(backbone), head=MODELS.build(decode_head)))
    return model.eval()


def group_scores(size: int, reduction: float, batch: int) -> dict[int, Tensor]:
    """Scores that leave 1 / ``reduction`` of the tokens: 1 for groups that merge, else 0.

    A sixteenth of the image goes into groups of 16x16 patches, a tenth into 8x8, a fifth into
    4x4, much as STEP's table 2 has it; 2x2 groups make up the rest.
    """
    cells = size // 16
    generator = torch.Generator().manual_seed(0)
    free = torch.ones(cells, cells, dtype=torch.bool)
    scores, tokens = {}, cells * cells
    target = round(tokens / reduction)
    for group, share in ((16, 1 / 16), (8, 0.1), (4, 0.2), (2, 1.0)):
        grid = cells // group
        whole = free.view(grid, group, grid, group).all(3).all(1).flatten()
        wanted = int(share * cells * cells / group**2)
        if group == 2:
            wanted = round((tokens - target) / 3)
        order = torch.randperm(grid * grid, generator=generator)
        chosen = order[whole[order]][: max(wanted, 0)]
        flags = torch.zeros(grid * grid)
        flags[chosen] = 1
        tokens -= len(chosen) * (group**2 - 1)
        scores[group] = flags.view(1, grid, grid).repeat(batch, 1, 1)
        inside = flags.view(grid, grid).bool()
        free &= ~inside.repeat_interleave(group, 0).repeat_interleave(group, 1)
    return scores


def confidence(size: int, share: float, batch: int) -> Tensor:
    """Confidence of every patch: above the threshold at a random ``share`` of them."""
    cells = size // 16
    order = torch.rand((1, cells, cells), generator=torch.Generator().manual_seed(1))
    return (order < share).float().repeat(batch, 1, 1)


def cases(options: argparse.Namespace) -> dict[str, tuple[nn.Module, dict[str, Any]]]:
    """Models and what is injected into their backbones."""
    merged = dict(group_scores=group_scores(options.size, options.reduction, options.batch))
    halted = dict(confidence=[confidence(options.size, options.halted, options.batch)])
    given = {'SegViT': {}, 'halting': halted, 'dCTS': merged, 'STEP': {**merged, **halted}}
    models = {
        name: build(
            options.arch,
            options.size,
            options.classes,
            options.after,
            'group_scores' in inject,
            'confidence' in inject,
        )
        for name, inject in given.items()
    }
    for model in models.values():
        # One set of blocks, so that memory does not decide.
        model['backbone'].layers = models['SegViT']['backbone'].layers
    return {name: (models[name], inject) for name, inject in given.items()}


@torch.no_grad()
def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Operations and times of every case."""
    device = torch.device(options.device)
    dtype = getattr(torch, options.dtype)
    image = torch.randn(options.batch, 3, options.size, options.size).to(device)
    runs: dict[str, Callable[[], Any]] = {}
    results: dict[str, dict[str, Any]] = {}
    for name, (model, inject) in cases(options).items():
        model = model.to(device)

        def run(model: nn.Module = model, inject: dict[str, Any] = inject) -> Any:
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                tokens = model['backbone'](image, **inject)
                model['head'].predict(tokens, [])
            return tokens

        counter = OperatorCounter(model)
        with counter:
            tokens = run()
        results[name] = dict(
            case=name,
            gmacs=counter.executed.total() / 1e9 / options.batch,
            tokens=sum(tokens.layout.lengths) / options.batch,
            tokens_at_the_end=sum(tokens.stages[-1].lengths) / options.batch,
            ms=[],
            cpu_ms=[],
        )
        runs[name] = run
        print(f'{name}: {results[name]["gmacs"]:.0f} G multiply-accumulates', flush=True)
    for _ in range(options.repeat):
        for name, run in runs.items():
            _synchronise(device)
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            _synchronise(device)
            results[name]['ms'].append(1000 * (time.perf_counter() - wall))
            results[name]['cpu_ms'].append(1000 * (time.process_time() - cpu))
    return list(results.values())


def judge(results: Sequence[dict[str, Any]], clock: str) -> None:
    """Add speed-ups over the first case, by the fastest of the repetitions."""
    base = results[0]
    for row in results:
        row['promised'] = base['gmacs'] / row['gmacs']
        row['measured'] = min(base[clock]) / min(row[clock])
        if row is not base and row['promised'] != 1:
            row['ratio'] = (row['measured'] - 1) / (row['promised'] - 1)


def _synchronise(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser('step', description=__doc__.split('\n\n')[0])
    add = parser.add_argument
    add('--arch', choices=sorted(WIDTHS), default='large')
    add(
        '--size',
        type=whole(SIDE, MOST_PIXELS),
        default=1024,
        metavar='PX',
        help=f'side of the image, a multiple of {SIDE} (default: 1024)',
    )
    add('--classes', type=whole(1, MOST_CHANNELS), default=19, metavar='N')
    add('--batch', type=whole(), default=1, metavar='N')
    add('--after', type=whole(), default=8, metavar='N', help='blocks before the halting point')
    add('--halted', type=real(0, 1), default=0.5, metavar='X', help='share of tokens that halt')
    # Groups of 16 x 16 patches leave a token of 256.
    add(
        '--reduction',
        type=real(1, max(GROUPS) ** 2),
        default=2.5,
        metavar='X',
        help='patches per token of dCTS',
    )
    add('--repeat', type=whole(), default=3, metavar='N')
    add('--device', default='cpu')
    add('--dtype', choices=('float32', 'bfloat16', 'float16'), default='float32')
    add(
        '--clock',
        choices=('ms', 'cpu_ms'),
        default='ms',
        help="judge by wall clock, or by the process's CPU time where other programs run as well",
    )
    add(
        '--least',
        type=real(-MOST_NUMBER, MOST_NUMBER),
        default=0.7,
        metavar='X',
        help='ratio that must be reached',
    )
    add('--out', type=Path, metavar='FILE', help='JSON file')
    options = parser.parse_args(arguments)
    if options.size % SIDE:
        parser.error(f'--size must be a multiple of {SIDE}, found {options.size}')
    depth = VIT_ARCHS[options.arch].num_layers
    if options.after >= depth:
        parser.error(
            f'--after must be below the {depth} blocks of --arch {options.arch}, found '
            f'{options.after}'
        )
    return options


def run(options: argparse.Namespace) -> int:
    """Check, measure, print and write; 1 if a ratio is below ``--least``."""
    check_device(options.device)
    check_shape((options.size, options.size), options.batch, f'--batch {options.batch} --size')
    if options.out:
        check_writable('--out', options.out)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    results = measure(options)
    judge(results, options.clock)
    print(
        f'{"":10}{"GMAC":>8}{"tokens":>9}{"end":>7}{"ms":>10}{"promised":>10}{"measured":>10}{"ratio":>7}'
    )
    for row in results:
        print(
            f'{row["case"]:10}{row["gmacs"]:8.0f}{row["tokens"]:9.0f}'
            f'{row["tokens_at_the_end"]:7.0f}{min(row[options.clock]):10.0f}'
            f'{row["promised"]:10.2f}{row["measured"]:10.2f}{row.get("ratio", 1):7.2f}'
        )
    if options.out:
        about = {name: value for name, value in vars(options).items() if name != 'out'}
        report = dict(
            benchmark='step', options=about, machine=machine(options.device), results=results
        )
        write_json(options.out, report)
    return int(any(row.get('ratio', 1) < options.least for row in results))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 1 if a ratio is below ``--least``."""
    options = parse_args(arguments)
    return run_command('step', lambda: run(options))


if __name__ == '__main__':
    sys.exit(main())
