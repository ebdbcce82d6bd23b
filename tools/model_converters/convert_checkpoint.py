"""Convert a published checkpoint, or one of our own pre-training, to what configs start from.

Example, with the options that make the model compute what the authors' code computes:

    python tools/model_converters/convert_checkpoint.py arta model_final.pth arta.pth
        --config configs/arta/arta-tiny_mask2former_4xb8-80k_ade20k-512x512.py
        --cfg-options model.backbone.image_hidden=pixels
            model.decode_head.cell_position=sine model.decode_head.normalize=max

Strict: nothing is written if a key of the checkpoint is unknown, or if a config is given and
its model has other weights than the checkpoint.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmseg.registry import DATASETS
from torch import nn

import mmseg_arta  # noqa: F401  registers everything
from mmseg_arta.analysis.flops.load import load_config
from mmseg_arta.checkpoints import (
    CONVERTERS,
    CheckpointError,
    check_weights,
    convert_state_dict,
    read_state_dict,
    write_checkpoint,
)
from mmseg_arta.command_line import Parser, Settings, run_command


def pattern(text: str) -> str:
    """A regular expression, for argparse."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(
            f'expected regular expressions, found {text!r}: {error}'
        ) from None
    return text


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser('convert_checkpoint', description=__doc__)
    parser.add_argument('family', choices=sorted(CONVERTERS), help='whose checkpoint it is')
    parser.add_argument(
        'source',
        type=Path,
        metavar='SRC',
        help='the published checkpoint, or one of configs/imagenet',
    )
    parser.add_argument('target', type=Path, metavar='DST', help='file to write')
    parser.add_argument(
        '--config', metavar='CONFIG', help='path or name: check against the model of this config'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=Settings, help='key=value changes to the config'
    )
    parser.add_argument(
        '--options', nargs='+', action=Settings, default={}, help='key=value for the converter'
    )
    parser.add_argument(
        '--allow-missing',
        nargs='+',
        type=pattern,
        default=[],
        metavar='REGEX',
        help='keys of the model that the checkpoint need not have',
    )
    args = parser.parse_args(argv)
    if args.config is None and (args.cfg_options or args.allow_missing):
        parser.error('--cfg-options and --allow-missing need --config')
    return args


def build_model(config: Config) -> nn.Module:
    """The config's model, without weights.

    Raises:
        CheckpointError: if it cannot be built.
    """
    init_default_scope(config.get('default_scope', 'mmseg'))
    try:
        return MODELS.build(config.model)
    except Exception as error:
        name = Path(config.filename).name
        raise CheckpointError(f'{name}: its model cannot be built ({error})') from error


def dataset_meta(config: Config) -> dict:
    """Classes and palette of the config's data set, for ``init_model``; empty if unknown."""
    dataset = (config.get('test_dataloader') or {}).get('dataset') or {}
    if 'type' not in dataset:
        return {}
    kind = DATASETS.get(dataset['type'])
    info = dict(getattr(kind, 'METAINFO', {})) | dict(dataset.get('metainfo') or {})
    kept = {key: info[key] for key in ('classes', 'palette') if key in info}
    return dict(dataset_meta=kept) if 'classes' in kept else {}


def convert(args: argparse.Namespace) -> int:
    """Convert a file.

    Returns:
        The number of weights written.

    Raises:
        OSError, ValueError: if anything is not as it should be.
    """
    config = None
    if args.config is not None:
        config = load_config(args.config, args.cfg_options)
    weights = convert_state_dict(args.family, read_state_dict(args.source), args.options)
    meta = dict(family=args.family)
    if config is not None:
        check_weights(weights, build_model(config), args.allow_missing)
        meta |= dataset_meta(config)
    write_checkpoint(weights, args.target, meta)
    return len(weights)


def run(args: argparse.Namespace) -> None:
    count = convert(args)
    print(f'{args.target}: {count} weights')


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    return run_command('convert_checkpoint', lambda: run(args))


if __name__ == '__main__':
    sys.exit(main())
