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
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmseg.registry import DATASETS
from torch import nn

import mmseg_arta  # noqa: F401  registers everything
from mmseg_arta.checkpoints import (
    CONVERTERS,
    CheckpointError,
    check_weights,
    convert_state_dict,
    read_state_dict,
    write_checkpoint,
)
from mmseg_arta.command_line import Settings


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('family', choices=sorted(CONVERTERS), help='whose checkpoint it is')
    parser.add_argument(
        'source',
        type=Path,
        metavar='SRC',
        help='the published checkpoint, or one of configs/imagenet',
    )
    parser.add_argument('target', type=Path, metavar='DST', help='file to write')
    parser.add_argument('--config', type=Path, help='check against the model of this config')
    parser.add_argument(
        '--cfg-options', nargs='+', action=Settings, help='key=value changes to the config'
    )
    parser.add_argument(
        '--options', nargs='+', action=Settings, default={}, help='key=value for the converter'
    )
    parser.add_argument(
        '--allow-missing',
        nargs='+',
        default=[],
        metavar='REGEX',
        help='keys of the model that the checkpoint need not have',
    )
    args = parser.parse_args(argv)
    if args.config is None and (args.cfg_options or args.allow_missing):
        parser.error('--cfg-options and --allow-missing need --config')
    return args


def load_config(path: Path, options: dict | None) -> Config:
    """The config with changes.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        config = Config.fromfile(path)
        config.merge_from_dict(options or {})
    except (OSError, SyntaxError, KeyError, TypeError, ImportError) as error:
        raise CheckpointError(f'{path}: cannot be read as a config ({error})') from error
    if 'model' not in config:
        raise CheckpointError(f'{path}: has no model')
    return config


def build_model(path: Path, config: Config) -> nn.Module:
    """The config's model, without weights.

    Raises:
        CheckpointError: if it cannot be built.
    """
    init_default_scope(config.get('default_scope', 'mmseg'))
    try:
        return MODELS.build(config.model)
    except Exception as error:
        raise CheckpointError(f'{path}: its model cannot be built ({error})') from error


def dataset_meta(config: Config) -> dict:
    """Classes and palette of the config's data set, for ``init_model``; empty if unknown."""
    dataset = config.get('test_dataloader', {}).get('dataset', {})
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
        CheckpointError: if anything is not as it should be.
    """
    weights = convert_state_dict(args.family, read_state_dict(args.source), args.options)
    meta = dict(family=args.family)
    if args.config is not None:
        config = load_config(args.config, args.cfg_options)
        check_weights(weights, build_model(args.config, config), args.allow_missing)
        meta |= dataset_meta(config)
    write_checkpoint(weights, args.target, meta)
    return len(weights)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        count = convert(args)
    except CheckpointError as error:
        print(f'convert_checkpoint: error: {" ".join(str(error).split())}', file=sys.stderr)
        return 2
    print(f'{args.target}: {count} weights')
    return 0


if __name__ == '__main__':
    sys.exit(main())
