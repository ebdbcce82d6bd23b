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
import json
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
from mmseg_arta.analysis.flops.counter import OperatorCounter
from mmseg_arta.models.backbones.step_vit import VIT_ARCHS

WIDTHS = {'base': (768, 384, 12), 'large': (1024, 512, 16)}
THRESHOLD = 0.9
GROUPS = (2, 4, 8, 16)


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
        if row is not base:
            row['ratio'] = (row['measured'] - 1) / (row['promised'] - 1)


def _synchronise(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 1 if a ratio is below ``--least``."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--arch', choices=sorted(WIDTHS), default='large')
    parser.add_argument('--size', type=int, default=1024, help='side of the image, pixels')
    parser.add_argument('--classes', type=int, default=19)
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--after', type=int, default=8, help='blocks before the halting point')
    parser.add_argument('--halted', type=float, default=0.5, help='share of tokens that halt')
    parser.add_argument('--reduction', type=float, default=2.5, help='patches per token of dCTS')
    parser.add_argument('--repeat', type=int, default=3)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16', 'float16'), default='float32')
    parser.add_argument(
        '--clock',
        choices=('ms', 'cpu_ms'),
        default='ms',
        help="judge by wall clock, or by the process's CPU time where other programs run as well",
    )
    parser.add_argument('--least', type=float, default=0.7, help='ratio that must be reached')
    parser.add_argument('--out', type=Path, help='JSON file')
    options = parser.parse_args(arguments)
    if options.size % 256:
        parser.error(f'--size must be a multiple of 256, found {options.size}')
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
        report = dict(
            benchmark='step',
            options={name: value for name, value in vars(options).items() if name != 'out'},
            machine=machine(options.device),
            results=results,
        )
        options.out.write_text(json.dumps(report, indent=2) + '\n')
    return int(any(row.get('ratio', 1) < options.least for row in results))


if __name__ == '__main__':
    raise SystemExit(main())
