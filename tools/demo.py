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
    found = str(beside) if beside.exists() else shutil.which('mim')
    if found is None:
        sys.exit('demo: no mim command was found; "make install" installs it (onedl-mim)')
    return found


def main() -> None:
    """Make toy data, train, test, and say where the pictures are."""
    args = parse_args()
    root = Path(__file__).resolve().parent.parent
    config = root / CONFIG
    if not config.exists():
        sys.exit(f'demo: {config} is missing; run this from a checkout')
    data, work_dir = args.out / 'toy_camvid', args.out / 'run'
    if not data.exists():
        run(
            sys.executable,
            str(root / 'tools/make_toy_dataset.py'),
            str(data),
            '--layout',
            'camvid',
            '--train',
            '200',
            '--val',
            '20',
            '--size',
            '256',
            '256',
            '--seed',
            '0',
        )
    roots = [f'{loader}_dataloader.dataset.data_root={data}' for loader in ('train', 'val', 'test')]
    # The schedule is the config's, shortened.
    short = [
        f'train_cfg.max_iters={args.iters}',
        f'train_cfg.val_interval={args.iters}',
        f'default_hooks.checkpoint.interval={args.iters}',
        'default_hooks.checkpoint.save_best=None',
        f'param_scheduler.0.end={args.iters // 10}',
        f'param_scheduler.1.begin={args.iters // 10}',
        f'param_scheduler.1.end={args.iters}',
    ]
    run(
        mim(),
        'train',
        'mmsegmentation',
        str(config),
        '--gpus',
        '0',
        '--work-dir',
        str(work_dir),
        '--cfg-options',
        *roots,
        *short,
    )
    checkpoint = work_dir / f'iter_{args.iters}.pth'
    run(
        mim(),
        'test',
        'mmsegmentation',
        str(config),
        '--checkpoint',
        str(checkpoint),
        '--gpus',
        '0',
        '--work-dir',
        str(work_dir / 'test'),
        '--cfg-options',
        *roots,
        'custom_hooks.1.interval=5',
    )
    pictures = sorted((work_dir / 'test').glob('token_pictures/test/*.png'))
    if not pictures:
        sys.exit(f'demo: no picture was written below {work_dir / "test"}')
    print('\nimage | ground truth | allocated tokens per round | prediction:')
    for picture in pictures:
        print(f'  {picture}')


if __name__ == '__main__':
    main()
