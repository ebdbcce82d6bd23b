"""What merging and halting do to the images of a config's test set (STEP, CTS, DToP).

Tokens per superpatch size and tokens halted at every head, mean, largest and smallest (STEP's
tables 2 and 7), with the cost of every image as executed:

    python tools/analyze_tokens.py CONFIG --checkpoint FILE --images 100 --pictures tokens

Thresholds per group size, 2x2 first, or for some sizes only (table 1, figure 4):

    python tools/analyze_tokens.py CONFIG --checkpoint FILE --evaluate \\
        --thresholds 0.6,0.8,0.9,0.9 --thresholds 0.4,0.9,0.9,0.9 --thresholds 2:0.4

Heads after other blocks (figures 5 and 6; every placement is a training of its own, so give each
its checkpoint in turn), and cost and time of every layer (figures 9 and 10):

    python tools/analyze_tokens.py CONFIG --halt-after 8,16 --halt-after 18
    python tools/analyze_tokens.py CONFIG --checkpoint FILE --per-layer --images 1
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmseg.registry import DATASETS
from torch import nn

import mmseg_arta  # noqa: F401  registers the models
from mmseg_arta.analysis.flops.load import build_model, load_config
from mmseg_arta.analysis.token_pictures import token_picture
from mmseg_arta.analysis.tokens import (
    Analysis,
    analyze,
    halting_table,
    layer_costs,
    merging_table,
    render,
    set_thresholds,
)

GROUP_SIZES = (2, 4, 8, 16)


def thresholds(text: str) -> dict[int, float]:
    """'0.6,0.8' or '2:0.6,8:0.9' to thresholds by group size."""
    try:
        values = {}
        for size, item in zip(GROUP_SIZES, text.split(','), strict=False):
            name, _, value = item.rpartition(':')
            values[int(name) if name else size] = float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers such as '0.6,0.8,0.9,0.9' or '2:0.4', found {text!r}"
        ) from None
    return values


def blocks(text: str) -> tuple[int, ...]:
    """'8,16' to (8, 16)."""
    try:
        return tuple(int(item) for item in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected block numbers such as '8,16', found {text!r}"
        ) from None


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', metavar='CONFIG', help='path or name of a config')
    parser.add_argument('--checkpoint', metavar='FILE', help='weights of the model')
    parser.add_argument('--images', type=int, metavar='N', help='of the test set; default: all')
    parser.add_argument('--device', default='cpu', help="'cpu' (default) or 'cuda'")
    parser.add_argument('--thresholds', type=thresholds, action='append', help='see above')
    parser.add_argument('--halt-after', type=blocks, action='append', help='see above')
    parser.add_argument('--evaluate', action='store_true', help="run the config's evaluator too")
    parser.add_argument('--per-layer', action='store_true', help='cost and time of every layer')
    parser.add_argument('--repeat', type=int, default=3, help='timed passes of --per-layer')
    parser.add_argument('--pictures', type=Path, metavar='DIR', help='draw every image')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the result too')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args(argv)
    if args.images is not None and args.images < 1:
        parser.error(f'--images must be at least 1, found {args.images}')
    return args


def variants(args: argparse.Namespace) -> Iterator[tuple[str, Config, nn.Module]]:
    """Every model to analyse: its label, config and itself."""
    for after in args.halt_after or [None]:
        config = load_config(args.config, args.cfg_options)
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
            yield (label + text).strip() or 'as configured', config, model


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Analyse, print, and return the results by label."""
    MMLogger.get_current_instance().setLevel('ERROR')
    results = {}
    for label, config, model in variants(args):
        data = DATASETS.build(config.test_dataloader.dataset)
        images = min(args.images or len(data), len(data))
        samples = [data[number * len(data) // images] for number in range(images)]
        evaluator = None
        if args.evaluate:
            evaluator = Evaluator(config.test_evaluator)
            evaluator.dataset_meta = data.metainfo
        print(f'# {label}')
        if args.per_layer:
            batch = pseudo_collate(samples[:1])
            with torch.no_grad():
                costs = layer_costs(model, lambda m=model, b=batch: m.test_step(b), args.repeat)
            for cost in costs:
                print(f'{cost.name:28}{cost.gmacs:10.2f} GMAC{cost.ms:10.1f} ms')
            results[label] = dict(layers=[asdict(cost) for cost in costs])
            continue
        draw = None
        if args.pictures:
            args.pictures.mkdir(parents=True, exist_ok=True)
            draw = painter(args.pictures, model, data.metainfo['palette'], len(results))
        analysis = analyze(model, samples, evaluator, draw)
        after = model.backbone.halting.after if model.backbone.halting is not None else ()
        print(render(analysis.uses, analysis.gmacs, after))
        for name, value in analysis.metrics.items():
            print(f'{name}: {value:.2f}')
        results[label] = summary(analysis)
    return results


def painter(folder: Path, model: nn.Module, palette: Any, variant: int) -> Any:
    """What draws one file per image, or per window of it."""
    drawn: dict[int, int] = {}

    def draw(number: int, image: Any, tokens: Any) -> None:
        window = drawn[number] = drawn.get(number, -1) + 1
        name = folder / f'{variant}_{number:05d}_{window:03d}.png'
        cv2.imwrite(str(name), token_picture(model, image, tokens, palette))

    return draw


def summary(analysis: Analysis) -> dict[str, Any]:
    """Plain numbers."""
    return dict(
        superpatches={size: asdict(row) for size, row in merging_table(analysis.uses).items()},
        halted=[asdict(row) for row in halting_table(analysis.uses)],
        gmacs=sum(analysis.gmacs) / len(analysis.gmacs),
        metrics={name: float(value) for name, value in analysis.metrics.items()},
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        results = run(args)
        if args.json:
            args.json.write_text(json.dumps(results, indent=2) + '\n')
    except (OSError, TypeError, ValueError) as error:
        print(f'analyze_tokens: error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
