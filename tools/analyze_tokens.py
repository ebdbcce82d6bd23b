"""What models do with their tokens on a config's test set, and how good they are near boundaries.

Tokens of every image by size, the class boundary that each round's choice covers, and what it
spends away from it, against random and against the best choice of equally many; for plain
transformers patches merged and tokens halted (STEP's tables 2 and 7); mIoU in bands around class
boundaries and boundary IoU:

    python tools/analyze_tokens.py CONFIG --checkpoint FILE --images 100 --out tokens

Thresholds per group size, 2x2 first, or for some sizes only (STEP table 1, figure 4):

    python tools/analyze_tokens.py CONFIG --checkpoint FILE --evaluate \\
        --thresholds 0.6,0.8,0.9,0.9 --thresholds 0.4,0.9,0.9,0.9 --thresholds 2:0.4

Heads after other blocks (figures 5 and 6; every placement is a training of its own, so give each
its checkpoint in turn), and cost and time of every layer (figures 9 and 10):

    python tools/analyze_tokens.py CONFIG --halt-after 8,16 --halt-after 18
    python tools/analyze_tokens.py CONFIG --checkpoint FILE --per-layer

tools/visualize.py draws the tokens.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from torch import nn

import mmseg_arta  # noqa: F401  registers the models
from mmseg_arta.analysis.benchmark.subjects import check_codebase, parse_thresholds
from mmseg_arta.analysis.boundary_quality import BOUNDARY_RATIO
from mmseg_arta.analysis.class_names import classes_of
from mmseg_arta.analysis.devices import check_device
from mmseg_arta.analysis.flops.count import MODES, check_allocation, forced_allocation
from mmseg_arta.analysis.flops.load import build_model, load_config
from mmseg_arta.analysis.flops.samples import spread_numbers, validation_set
from mmseg_arta.analysis.layer_costs import layer_costs
from mmseg_arta.analysis.passes import window_by_window
from mmseg_arta.analysis.token_report import draw_plots, render, summary, write_csv
from mmseg_arta.analysis.tokens import Analysis, analyze, set_thresholds
from mmseg_arta.analysis.visualization import sample_of
from mmseg_arta.command_line import Settings
from mmseg_arta.files import check_folder, check_writable, write_json
from mmseg_arta.models.segmentors.group_policy import GroupPolicySegmentor


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'analyze_tokens: error: {message}\n')


def thresholds(text: str) -> dict[int, float]:
    """'0.6,0.8' or '2:0.6,8:0.9' to thresholds by group size."""
    try:
        return parse_thresholds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers such as '0.6,0.8,0.9,0.9' or '2:0.4', found {text!r}"
        ) from None


def blocks(text: str) -> tuple[int, ...]:
    """'8,16' to (8, 16)."""
    try:
        return tuple(int(item) for item in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected block numbers such as '8,16', found {text!r}"
        ) from None


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', metavar='CONFIG', help='path or name of a config')
    add('--checkpoint', metavar='FILE', help='weights of the model; random ones without')
    add('--images', type=int, metavar='N', help='of the test set, spread evenly; default: all')
    add('--device', default='cpu', metavar='NAME', help='cpu (default), cuda or cuda:N')
    add(
        '--mode',
        choices=MODES,
        default='config',
        help='whole: the image at once; slide: in windows; config: as test_cfg says (default)',
    )
    add(
        '--allocation',
        default='model',
        metavar='NAME',
        help='who gets finer tokens: full, caps, a share such as 0.3, or model (default)',
    )
    add(
        '--boundary-ratio',
        type=float,
        default=BOUNDARY_RATIO,
        metavar='X',
        help="width of boundary IoU's regions, of the image's diagonal (default: %(default)s)",
    )
    add('--thresholds', type=thresholds, action='append', metavar='X,X', help='see above')
    add('--halt-after', type=blocks, action='append', metavar='N,N', help='see above')
    add('--evaluate', action='store_true', help="run the config's evaluator too")
    add(
        '--per-layer',
        action='store_true',
        help='cost and time of every layer instead, on one image',
    )
    add('--repeat', type=int, default=3, metavar='N', help='timed passes of --per-layer')
    add('--out', type=Path, metavar='DIR', help='write CSV files and plots there')
    add('--json', type=Path, metavar='FILE', help='write means as JSON')
    add('--cfg-options', nargs='+', action=Settings, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """What can be known before anything is built."""
    check_device(args.device)
    check_allocation(args.allocation)
    for name in ('images', 'repeat'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f'--{name} must be at least 1, found {value}')
    if not 0 < args.boundary_ratio < 1:
        raise ValueError(f'--boundary-ratio must be between 0 and 1, found {args.boundary_ratio:g}')
    if args.per_layer:
        for name in ('out', 'evaluate'):
            if getattr(args, name):
                raise ValueError(f'--{name} is not of --per-layer, which writes --json alone')
        if args.images not in (None, 1):
            raise ValueError(f'--per-layer is of one image, found --images {args.images}')
    if args.json:
        check_writable('--json', args.json)
    if args.out:
        check_folder('--out', args.out)


def variants(args: argparse.Namespace) -> Iterator[tuple[str, Config, nn.Module]]:
    """Every model to analyse: its label, config and itself."""
    for after in args.halt_after or [None]:
        config = load_config(args.config, args.cfg_options)
        check_codebase(args.config, config)
        label = ''
        if after is not None:
            halting = config.model.backbone.get('halting')
            if halting is None:
                raise ValueError(f'--halt-after: {config.filename} has no backbone.halting')
            halting.after = after
            label = f'heads after {",".join(map(str, after))} '
        model = build_model(config, args.checkpoint).to(args.device)
        for chosen in args.thresholds or [None]:
            if chosen is not None:
                set_thresholds(model, chosen)
            text = '' if chosen is None else f'thresholds {chosen}'
            yield (label + text).strip() or short_name(args.config), config, model


def short_name(config: str) -> str:
    """Backbone and head of a config's name."""
    return ' '.join(Path(config.rpartition('::')[2]).stem.split('_')[:2])


def show_progress(total: int, done: int) -> None:
    if sys.stderr.isatty():
        end = '\n' if done == total else ''
        print(f'\r{done}/{total} images', end=end, file=sys.stderr, flush=True)


def run(args: argparse.Namespace) -> None:
    """Analyse, print and write."""
    check(args)
    MMLogger.get_current_instance().setLevel('ERROR')
    results: dict[str, Any] = {}
    analyses: dict[str, Analysis] = {}
    classes: Sequence[str] = ()
    for label, config, model in variants(args):
        data = validation_set(config, 'test_dataloader')
        classes = classes_of(data.metainfo)
        numbers = spread_numbers(args.images or len(data), len(data))
        if args.checkpoint is None:
            print('analyze_tokens: random weights: only costs mean something', file=sys.stderr)
        print(f'# {label}')
        with (
            window_by_window(model, args.mode),
            forced_allocation(model, args.allocation),
        ):
            if args.per_layer:
                results[label] = dict(layers=per_layer(model, sample_of(data, 0), args.repeat))
                continue
            check_classes(label, model, classes)
            evaluator = None
            if args.evaluate:
                if config.get('test_evaluator') is None:
                    raise ValueError(f'--evaluate: {label} has no test_evaluator')
                evaluator = Evaluator(config.test_evaluator)
                evaluator.dataset_meta = data.metainfo
            analyses[label] = analyze(
                model,
                (sample_of(data, number) for number in numbers),
                len(classes),
                evaluator,
                args.boundary_ratio,
                partial(show_progress, len(numbers)),
            )
        print(render(analyses[label]), flush=True)
        results[label] = summary(analyses[label])
    if args.out and analyses:
        args.out.mkdir(parents=True, exist_ok=True)
        for path in (
            *write_csv(analyses, classes, args.out),
            *draw_plots(analyses, classes, args.out),
        ):
            print(path)
    if args.json:
        write_json(args.json, results)


def check_classes(label: str, model: nn.Module, classes: Sequence[str]) -> None:
    """Raise ValueError unless a model predicts the classes of the data set."""
    if isinstance(model, GroupPolicySegmentor):
        raise ValueError(f'{label}: its model predicts what merges, not classes of pixels')
    head = model.decode_head
    count = getattr(head[-1] if isinstance(head, nn.ModuleList) else head, 'num_classes', None)
    if count != len(classes):
        raise ValueError(
            f'{label}: decode_head.num_classes is {count}, the test data set has {len(classes)} '
            'classes'
        )


def per_layer(model: nn.Module, sample: Any, repeat: int) -> list[dict[str, Any]]:
    """Cost of every layer on an image, printed."""
    batch = pseudo_collate([sample])
    with torch.no_grad():
        costs = layer_costs(model, lambda: model.test_step(batch), repeat)
    for cost in costs:
        time = f'{"-":>10}' if cost.ms is None else f'{cost.ms:10.1f} ms'
        print(f'{cost.name:28}{cost.gmacs:10.2f} GMAC{time}')
    return [asdict(cost) for cost in costs]


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        run(args)
    except (OSError, ValueError) as error:
        print(f'analyze_tokens: error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
