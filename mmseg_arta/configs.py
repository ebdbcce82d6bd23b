"""List the bundled configs, and begin a config of your own that inherits one of them.

    python -m mmseg_arta.configs                               # all names
    python -m mmseg_arta.configs 'arta-tiny*' --dataset ade20k
    python -m mmseg_arta.configs arta-nano_segformer_1xb4-2k_camvid-256x256 --out my_config.py
    mim train mmsegmentation my_config.py --gpus 1

The file inherits the bundled config wherever the package is installed, so it may be taken to
another machine. With --flat it holds all settings and inherits nothing; such a file can also be
imported under MMEngine's read_base().
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .config_files import config_folders, configs_below, inherited, suggestion
from .files import check_writable, write_text
from .version import __version__

# <GPUs>xb<images>-<length>_<data set>[-<height>x<width>] ends every name.
_END = re.compile(r'_\d+xb\d+-\d+[ke]_(.+?)(?:-\d+x\d+)?$')
# Names that an error counts up.
_NAMED = 5


def bundled() -> list[Path]:
    """All configs of this package, by family and name.

    Raises:
        FileNotFoundError: if the installation holds none.
    """
    folders = config_folders('mmseg_arta')
    if not folders:
        raise FileNotFoundError(
            'no bundled configs were found; reinstall: pip install --force-reinstall --no-deps '
            'mmseg_arta'
        )
    return configs_below(folders[0])


def family(config: Path) -> str:
    """Its folder of configs."""
    parts = config.parts
    return parts[len(parts) - 1 - parts[::-1].index('configs') + 1]


def dataset(config: Path) -> str:
    """The data set that its name states, such as ``'ade20k'``."""
    match = _END.search(config.stem)
    return match[1] if match else ''


def chosen(
    patterns: Sequence[str], families: Sequence[str] = (), datasets: Sequence[str] = ()
) -> list[Path]:
    """Bundled configs whose names fit every pattern.

    Args:
        patterns: shell patterns, parts of names, or whole names, which choose that config alone.
        families: folders of configs; all if empty.
        datasets: data sets as names state them; all if empty.

    Raises:
        FileNotFoundError: if none fits; names that are alike stand in the message.
    """
    configs = bundled()
    for option, wanted, known in (
        ('--family', families, {family(path) for path in configs}),
        ('--dataset', datasets, {dataset(path) for path in configs}),
    ):
        for name in wanted:
            if name not in known:
                raise FileNotFoundError(f'{option} {name}: known are {", ".join(sorted(known))}')
    found = [
        path
        for path in configs
        if (not families or family(path) in families)
        and (not datasets or dataset(path) in datasets)
        and all(_fits(path, pattern) for pattern in patterns)
    ]
    if not found:
        asked = ' '.join([*patterns, *families, *datasets])
        near = suggestion(asked, {path.stem for path in configs})
        raise FileNotFoundError(f'no bundled config fits {asked!r}{near}')
    exact = [path for path in found if path.stem in (Path(p).stem for p in patterns)]
    return exact or found


def _fits(config: Path, pattern: str) -> bool:
    name = Path(pattern).name.removesuffix('.py')
    if any(sign in name for sign in '*?['):
        return fnmatchcase(config.stem, name)
    return name in config.stem


def inheriting(config: Path) -> str:
    """Text of a config that inherits a bundled one, with what is often changed as comments.

    Uncommented, these lines say what the inherited config says.
    """
    name = config.stem
    lines = [
        f'# Inherits {name} of mmseg_arta {__version__}, wherever that is installed.',
        f'_base_ = [{inherited(name)}]',
    ]
    settings = _often_changed(Config.fromfile(config, import_custom_modules=False).to_dict())
    lines += ['', '# What is often changed, with the inherited values:']
    lines += [f'# {line}' for line in Config(settings).pretty_text.splitlines()]
    return '\n'.join(lines) + '\n'


def _often_changed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Data, lengths, rates and classes of a config, each as a setting that keeps its value."""
    wanted = {
        'train_dataloader': ('batch_size', 'num_workers', 'dataset.data_root'),
        'val_dataloader': ('dataset.data_root',),
        'test_dataloader': ('dataset.data_root',),
        'train_cfg': ('max_iters', 'val_interval', 'max_epochs'),
        'param_scheduler': (),
        'optim_wrapper': ('optimizer.lr',),
        'default_hooks': ('checkpoint.interval',),
        'model': ('backbone.init_cfg', 'decode_head.num_classes', 'head.num_classes'),
    }
    found: dict[str, Any] = {}
    for key, paths in wanted.items():
        if not paths and key in config:
            found[key] = config[key]
        for path in paths:
            parts = path.split('.')
            value: Any = config.get(key)
            for part in parts:
                value = value.get(part, ...) if isinstance(value, Mapping) else ...
            if value is not ...:
                inner = found.setdefault(key, {})
                for part in parts[:-1]:
                    inner = inner.setdefault(part, {})
                inner[parts[-1]] = value
    return found


def flattened(config: Path) -> str:
    """Text of a config with all settings of a bundled one, which inherits nothing."""
    text = Config.fromfile(config, import_custom_modules=False).pretty_text
    ast.parse(text)
    return f'# All settings of {config.stem} of mmseg_arta {__version__}.\n{text}'


def write_config(config: Path, path: Path, flat: bool = False, overwrite: bool = False) -> None:
    """Write a config of one's own, whole or not at all.

    Args:
        config: the bundled config.
        path: the file.
        flat: all settings in place of inheritance.
        overwrite: whether a file that is there may be replaced.

    Raises:
        OSError: if the file cannot be written, or is there and may not be replaced.
        ValueError: if it is no Python file, or a bundled config.
    """
    if path.suffix != '.py':
        raise ValueError(f"--out {path}: a config is a Python file, found suffix '{path.suffix}'")
    check_writable('--out', path)
    if path.exists():
        if any(path.resolve().is_relative_to(folder) for folder in config_folders('mmseg_arta')):
            raise ValueError(f'--out {path} is a bundled config')
        if not overwrite:
            raise FileExistsError(f'--out {path} exists; --overwrite replaces it')
    write_text(path, flattened(config) if flat else inheriting(config))


def _parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m mmseg_arta.configs',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'patterns',
        nargs='*',
        metavar='PATTERN',
        help="names, parts of names, or patterns such as 'arta-tiny*'; all must fit",
    )
    parser.add_argument(
        '--family', action='append', default=[], metavar='NAME', help='such as arta; repeatable'
    )
    parser.add_argument(
        '--dataset', action='append', default=[], metavar='NAME', help='such as ade20k; repeatable'
    )
    parser.add_argument('--out', type=Path, metavar='FILE', help='write a config that inherits it')
    parser.add_argument('--flat', action='store_true', help='with all settings written out')
    parser.add_argument('--overwrite', action='store_true', help='replace FILE if it is there')
    options = parser.parse_args(arguments)
    for flag in ('flat', 'overwrite'):
        if getattr(options, flag) and options.out is None:
            parser.error(f'--{flag} needs --out FILE')
    return options


def _run(options: argparse.Namespace) -> None:
    configs = chosen(options.patterns, options.family, options.dataset)
    if options.out is None:
        print('\n'.join(path.stem for path in configs))
        return
    if len(configs) > 1:
        names = ', '.join(path.stem for path in configs[:_NAMED])
        more = f' and {len(configs) - _NAMED} more' if len(configs) > _NAMED else ''
        raise ValueError(f'--out takes one config, found {len(configs)}: {names}{more}')
    write_config(configs[0], options.out, options.flat, options.overwrite)
    codebase = 'mmpretrain' if family(configs[0]) == 'imagenet' else 'mmsegmentation'
    verb = 'holds all settings of' if options.flat else 'inherits'
    print(f'{options.out} {verb} {configs[0].stem}. Train it:')
    print(f'mim train {codebase} {options.out} --gpus 1')


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the return value is the process's exit code."""
    options = _parse_args(arguments)
    try:
        _run(options)
    except BrokenPipeError:  # a pager or head that has seen enough
        sys.stderr.close()
    except (OSError, ValueError) as error:
        print(f'configs: error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
