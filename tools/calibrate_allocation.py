"""Calibrate who gets finer tokens, and write a config with the result.

Without a budget: the caps (beta) of each allocation round from the ground truth of the training
set, as DUPS does it. With one: thresholds that spend it on average over validation images.

    python tools/calibrate_allocation.py dups-tiny_mask2former_4xb8-80k_ade20k-512x512 \\
        --out my_dups.py
    python tools/calibrate_allocation.py CONFIG --checkpoint CKPT --tokens 6000 --out my_arta.py
    python tools/calibrate_allocation.py CONFIG --checkpoint CKPT --gflops 40 --out my_arta.py

The config written inherits CONFIG and says only what is new.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

import mmseg_arta  # noqa: F401  registers the models
from mmseg_arta.analysis.benchmark.subjects import check_codebase
from mmseg_arta.analysis.calibration import (
    BackboneInputs,
    LabelMaps,
    calibrate_caps,
    calibrate_thresholds,
    fit_token_costs,
    token_cost,
)
from mmseg_arta.analysis.flops.load import build_model, load_config
from mmseg_arta.analysis.flops.samples import validation_set
from mmseg_arta.analysis.policy_config import policy_fragment, with_setting, write_fragment
from mmseg_arta.command_line import Parser, Settings, check_windows, run_command
from mmseg_arta.files import check_writable
from mmseg_arta.models.allocation.policies.combined import build_policy

T = TypeVar('T')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser('calibrate_allocation', description=__doc__)
    parser.add_argument('config', metavar='CONFIG', help='path or name of a config')
    parser.add_argument('--out', metavar='FILE', help='config to write; without it only print')
    parser.add_argument('--overwrite', action='store_true', help='replace FILE if it is there')
    parser.add_argument(
        '--images', type=int, metavar='N', help='use N images, spread evenly (default: all)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Settings,
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    caps = parser.add_argument_group('caps')
    caps.add_argument(
        '--percentile', type=float, metavar='P', help='of the shares of images (default: 99)'
    )
    caps.add_argument(
        '--margin', type=float, metavar='M', help='added to the percentile (default: 0.05)'
    )
    budget = parser.add_argument_group('thresholds for a budget')
    unit = budget.add_mutually_exclusive_group()
    unit.add_argument(
        '--tokens', type=float, metavar='N', help='tokens of all levels per image or window'
    )
    unit.add_argument(
        '--gflops',
        type=float,
        metavar='G',
        help='billions of multiply-accumulates of the model per image or window',
    )
    budget.add_argument('--checkpoint', metavar='FILE', help='weights of the model')
    budget.add_argument(
        '--published',
        action='store_true',
        help='count multiply-accumulates as the papers do, instead of what is executed',
    )
    args = parser.parse_args(argv)
    try:
        check(args)
    except ValueError as error:
        parser.error(str(error))
    return args


def check(args: argparse.Namespace) -> None:
    """What can be known before anything is read; fills in defaults.

    Raises:
        ValueError: for values that cannot be, and options that would have no effect.
    """
    for name in ('images', 'tokens', 'gflops'):
        value = getattr(args, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f'--{name} must be positive and finite, found {value:g}')
    budget = bool(args.tokens or args.gflops)
    if budget and not args.checkpoint:
        raise ValueError('a budget needs --checkpoint: thresholds depend on the trained scores')
    if args.checkpoint and not budget:
        raise ValueError('--checkpoint needs a budget, --tokens or --gflops: caps need no weights')
    if args.published and not args.gflops:
        raise ValueError('--published needs --gflops')
    if args.overwrite and not args.out:
        raise ValueError('--overwrite needs --out')
    for name, default, most in (('percentile', 99.0, 100), ('margin', 0.05, 1)):
        value = getattr(args, name)
        if value is None:
            setattr(args, name, default)
        elif budget:
            raise ValueError(f'--{name} is of caps, not of thresholds for a budget')
        elif not 0 <= value <= most:
            raise ValueError(f'--{name} must be in [0, {most}], found {value:g}')


def shown(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items, counted on the terminal as they go by."""
    for done, item in enumerate(items, 1):
        yield item
        if sys.stderr.isatty():
            end = '\n' if done == total else ''
            print(f'\r{what}: {done}/{total}', end=end, file=sys.stderr, flush=True)


def policy_of(config: Config) -> dict[str, Any]:
    """The allocation policy that a config sets, or its backbone's own.

    Raises:
        ValueError: if the backbone allocates no tokens, or by something that is no policy.
    """
    name = Path(config.filename).name
    backbone = config.model.get('backbone')
    if not isinstance(backbone, Mapping) or 'type' not in backbone:
        raise ValueError(
            f'{name}: model.backbone must be a dict with type, one of a backbone that allocates '
            f'tokens, found {backbone!r}'
        )
    kind = MODELS.get(backbone['type']) if isinstance(backbone['type'], str) else backbone['type']
    default = getattr(kind, 'default_allocation', None)
    if default is None:
        raise ValueError(f'{name}: backbone {backbone["type"]} does not allocate tokens')
    policy = backbone.get('allocation')
    if policy is None:
        return dict(default)
    try:
        build_policy(deepcopy(policy), 'model.backbone.allocation')
    except Exception as error:  # of a registry or a constructor: of any kind
        raise ValueError(f'{name}: {error}') from error
    return deepcopy(dict(policy))


def dataset_of(config: Config, loader: str, why: str) -> dict[str, Any]:
    """The data set of a loader.

    Raises:
        ValueError: if there is none, with ``why`` it is needed.
    """
    options = config.get(loader)
    dataset = options.get('dataset') if isinstance(options, Mapping) else None
    if not isinstance(dataset, Mapping):
        name = Path(config.filename).name
        raise ValueError(f'{name} has no {loader}.dataset: {why}; found {loader}={options!r}')
    return dataset


def ignored_label(config: Config) -> int:
    """The label of pixels that do not count.

    Raises:
        ValueError: if the config has no head.
    """
    heads = config.model.get('decode_head')
    # In a cascade the last head gives the prediction.
    head = heads[-1] if isinstance(heads, (list, tuple)) and heads else heads
    if not isinstance(head, Mapping):
        name = Path(config.filename).name
        raise ValueError(
            f'{name}: model.decode_head must be a dict or a list of dicts, found {heads!r}'
        )
    return head.get('ignore_index', 255)


def find_caps(config: Config, args: argparse.Namespace) -> dict[str, Any]:
    ignore = ignored_label(config)
    dataset = dataset_of(config, 'train_dataloader', 'caps come from its label maps')
    pipeline = []
    for loader in ('test_dataloader', 'val_dataloader'):
        if config.get(loader):
            test = dataset_of(config, loader, 'its pipeline says how images are resized')
            pipeline = test.get('pipeline') or ()
            break
    maps = LabelMaps(dataset, pipeline, args.images)
    caps = calibrate_caps(
        shown(maps, len(maps), 'label maps'),
        percentile=args.percentile,
        margin=args.margin,
        ignore_index=ignore,
    )
    caps = [round(value, 4) for value in caps]
    print(f'caps of {len(maps)} label maps: {caps}')
    return dict(caps=tuple(caps))


def find_thresholds(config: Config, args: argparse.Namespace) -> dict[str, Any]:
    dataset_of(config, 'val_dataloader', 'thresholds are found on its images')
    check_windows(config, 'config')
    dataset = validation_set(config)
    model = build_model(config, args.checkpoint)
    cost, unit, budget = token_cost, 'tokens', args.tokens
    if args.gflops:
        print('counting what tokens cost ...')
        costs = fit_token_costs(model, args.published)
        unit, budget = 'GFLOPs', args.gflops

        def cost(image, tokens):
            return costs.total([len(level) for level in tokens.levels])

    total = len(dataset)
    count = min(total, args.images or total)
    rows = np.linspace(0, total - 1, count).round().astype(int).tolist() if total else []
    inputs = BackboneInputs(model, dataset, rows)
    start = policy_of(config)
    thresholds = start.get('thresholds') or start.get('test', {}).get('thresholds')
    result = calibrate_thresholds(
        model.backbone,
        lambda: shown(inputs, len(inputs), 'images'),
        budget,
        cost=cost,
        **(dict(start=thresholds) if thresholds else {}),
    )
    rounded = tuple(float(f'{value:.6g}') for value in result.thresholds)
    print(
        f'thresholds {list(rounded)} spend {result.cost:.5g} {unit} per image of the backbone, '
        f'budget {budget:g} (without finer tokens {result.cheapest:.5g}, with all '
        f'{result.dearest:.5g})'
    )
    return dict(thresholds=rounded)


def sets_policy(name: str) -> bool:
    """Whether the file itself, which is inherited, sets a policy, whatever options say."""
    backbone = load_config(name).model.get('backbone')
    return isinstance(backbone, Mapping) and 'allocation' in backbone


def left_out(options: Mapping[str, Any] | None) -> list[str]:
    """Settings of the model that the config to write does not have: all but the policy's."""
    policy = 'model.backbone.allocation'
    return [
        key
        for key in options or ()
        if key.partition('.')[0] == 'model' and f'{key}.'[: len(policy) + 1] != f'{policy}.'
    ]


def run(args: argparse.Namespace) -> None:
    config = load_config(args.config, args.cfg_options)
    check_codebase(args.config, config)
    init_default_scope(config.get('default_scope', 'mmseg'))
    policy = policy_of(config)
    thresholds = bool(args.tokens or args.gflops)
    if args.out:
        # Before a long run rather than after it.
        with_setting(policy, {'thresholds' if thresholds else 'caps': ()})
        if Path(args.out).suffix != '.py':
            raise ValueError(f'--out {args.out}: expected a name that ends in .py')
        check_writable('--out', args.out)
        if Path(args.out).exists() and not args.overwrite:
            raise FileExistsError(f'{args.out} exists (option --overwrite)')
        missing = left_out(args.cfg_options)
        if missing:
            print(
                f'calibrate_allocation: {args.out} will not hold what --cfg-options set of the '
                f'model: {", ".join(missing)}; train and test it with them',
                file=sys.stderr,
            )
    setting = (find_thresholds if thresholds else find_caps)(config, args)
    if args.out:
        name = Path(config.filename).name
        kind = 'Thresholds' if thresholds else 'Caps'
        text = policy_fragment(
            config.filename,
            args.out,
            with_setting(policy, setting),
            f'{kind} of tools/calibrate_allocation.py for {name}.',
            sets_policy(args.config),
        )
        write_fragment(args.out, text, args.overwrite)
        print(f'written to {args.out}')


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    return run_command('calibrate_allocation', lambda: run(args))


if __name__ == '__main__':
    sys.exit(main())
