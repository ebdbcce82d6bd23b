"""Train and test a small ARTA on toy images with stock mim, and draw what its tokens do.

Every command is printed as it runs, so that it can be repeated by hand.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CONFIG = 'configs/arta/arta-nano_segformer_1xb4-2k_camvid-256x256.py'


def parse_args() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/demo'),
        help='folder for data, checkpoints and pictures (default: %(default)s)',
    )
    parser.add_argument(
        '--iters', type=int, default=200, help='training iterations (default: %(default)s)'
    )
    args = parser.parse_args()
    if args.iters < 1:
        parser.error(f'--iters must be at least 1, found {args.iters}')
    return args


def run(*command: str) -> None:
    """Run a command and show it.

    Raises:
        SystemExit: with the command's exit code, if it fails.
    """
    print(f'$ {shlex.join(command)}', flush=True)
    # Threads that wait by spinning are slow where other programs run as well.
    environment = {'OMP_WAIT_POLICY': 'PASSIVE', **os.environ}
    code = subprocess.run(command, check=False, env=environment).returncode
    if code:
        sys.exit(f'demo: the command above ended with exit code {code}')


def mim() -> str:
    """The mim command of this environment."""
    beside = Path(sys.executable).with_name('mim')
    command = str(beside) if beside.exists() else shutil.which('mim')
    if command is None:
        sys.exit('demo: no mim command was found; "make install" installs it (onedl-mim)')
    return command


def write_config(path: Path, base: Path, data: Path, iters: int) -> None:
    """A config of its own: the bundled one with the demo's data and a shortened schedule.

    It is written whole or not at all. Its name is the demo's, so that the copies which runs leave
    behind in a checkout never stand in the way of the bundled config when mim looks that up by
    name.
    """
    warm_up = max(iters // 10, 1)
    text = f"""_base_ = {str(base)!r}
train_dataloader = dict(dataset=dict(data_root={str(data)!r}))
val_dataloader = dict(dataset=dict(data_root={str(data)!r}))
test_dataloader = dict(dataset=dict(data_root={str(data)!r}))
train_cfg = dict(max_iters={iters}, val_interval={iters})
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end={warm_up}),
    dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=False, begin={warm_up}, end={iters}),
]
default_hooks = dict(checkpoint=dict(interval={iters}, save_best=None))
custom_hooks = [
    dict(type='TokenStatisticsHook'),
    dict(type='TokenPictureHook', interval=5),
]
"""
    part = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        part.write_text(text, encoding='utf-8')
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def demonstrate(args: argparse.Namespace) -> None:
    """Make toy data, train, test, and say where the pictures are."""
    root = Path(__file__).resolve().parent.parent
    base = root / CONFIG
    if not base.exists():
        sys.exit(f'demo: {base} is missing; run this from a checkout')
    # Without the package, which takes seconds to import: the commands that run need it.
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=args.out):
            pass
    except OSError as error:
        raise OSError(f'--out {args.out}: {error.strerror or error}') from error
    data, work_dir, config = args.out / 'toy_camvid', args.out / 'run', args.out / 'demo.py'
    if not data.exists():
        toy = '--layout camvid --train 200 --val 20 --size 256 256 --seed 0'
        tool = str(root / 'tools/make_toy_dataset.py')
        run(sys.executable, tool, str(data), *toy.split())
    write_config(config, base, data, args.iters)
    cpu = ['--gpus', '0', '--work-dir']
    run(mim(), 'train', 'mmsegmentation', str(config), *cpu, str(work_dir))
    checkpoint = ['--checkpoint', str(work_dir / f'iter_{args.iters}.pth')]
    test_dir = work_dir / 'test'
    run(mim(), 'test', 'mmsegmentation', str(config), *checkpoint, *cpu, str(test_dir))
    pictures = sorted(test_dir.glob('token_pictures/test/*.png'))
    if not pictures:
        sys.exit(f'demo: no picture was written below {test_dir}')
    print('\nimage, ground truth, prediction, errors; scores of each round; tokens of each round:')
    for picture in pictures:
        print(f'  {picture}')


def main() -> int:
    """Command line."""
    args = parse_args()
    try:
        demonstrate(args)
    except OSError as error:
        print(f'demo: error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
