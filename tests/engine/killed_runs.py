"""Training runs that are killed at random moments and resumed, against one that never was.

python tests/engine/killed_runs.py {arta,step} FOLDER --kills 20
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, find_latest_checkpoint
from mmengine.runner import runner as engine

import mmseg_arta  # noqa: F401  registers everything
from mmseg_arta.datasets.toy import write_toy_dataset

ROOT = Path(__file__).resolve().parents[2]
# Other packages install one that is called `tests`.
_TESTS = ModuleType('tests')
_TESTS.__path__ = [str(ROOT / 'tests')]
sys.modules['tests'] = _TESTS

from tests.caches import keep_environment, keep_formatted_text  # noqa: E402

CONFIG = ROOT / 'configs/arta/arta-nano_mask2former_1xb4-2k_camvid-256x256.py'
LENGTH = 7
_TOKENS = dict(channels=8, num_classes=11, num_layers=1, num_heads=2, self_attention=False)
STEP = dict(
    type='EncoderDecoder',
    backbone=dict(
        type='StepViT',
        arch=dict(embed_dims=16, num_layers=3, num_heads=2),
        img_size=64,
        out_indices=(2,),
        drop_path_rate=0.5,
        merging=dict(type='ThresholdMerging', thresholds={'2': 0.5, '4': 0.5}),
        policy_net=dict(type='GroupPolicyNet', head=dict(group_sizes=(2, 4))),
        halting=dict(
            after=(1, 2),
            head=dict(type='ATMTokenClassifier', in_channels=16, **_TOKENS),
            policy=dict(type='ConfidenceHalting', threshold=0.2),
        ),
    ),
    decode_head=dict(type='HaltingATMHead', in_channels=16, **_TOKENS),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)


class Losses(Hook):
    """Append the loss of every iteration to a file, to the last bit."""

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        with open(Path(runner.work_dir) / 'losses.txt', 'a') as file:
            file.write(f'{runner.iter} {outputs["loss"].item().hex()}\n')


def train(model: str, toy: Path, folder: Path) -> None:
    """Train, from the latest checkpoint in the folder if there is one."""
    config = Config.fromfile(CONFIG)
    loader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=str(toy)))
    config.merge_from_dict(
        {
            'train_cfg': dict(max_iters=LENGTH, val_interval=100),
            'train_dataloader': dict(batch_size=2, **loader),
            'val_dataloader': loader,
            'test_dataloader': loader,
            'model.backbone.allocation': dict(
                type='RandomAllocation', schedule=(1.0, 0.5), _delete_=True
            ),
            'default_hooks.checkpoint': dict(interval=1, max_keep_ckpts=1, save_best=None),
            'randomness.seed': 1,
            'work_dir': str(folder),
            'resume': True,
            'log_level': 'ERROR',
        }
    )
    config.custom_hooks = [dict(type='AllocationProgressHook')] if model == 'arta' else []
    config.train_dataloader.dataset.pipeline[-4].crop_size = (64, 64)
    if model == 'step':
        config.model = dict(STEP, data_preprocessor=config.model.data_preprocessor)
    config.experiment_name = folder.name
    DefaultScope.get_instance(folder.name, scope_name='mmseg')
    runner = Runner.from_cfg(config)
    # Before the checkpoint is written: a loss is written twice rather than never.
    runner.register_hook(Losses(), 'VERY_HIGH')
    runner.train()


def start(model: str, toy: Path, folder: Path) -> int:
    """A process that trains: its number."""
    child = os.fork()
    if child:
        return child
    try:
        train(model, toy, folder)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def ended(child: int, seconds: float) -> bool:
    """Wait for a process, but no longer than so many seconds.

    Raises:
        RuntimeError: if it failed.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found and status:
            raise RuntimeError(f'a run ended with status {status}')
        if found:
            return True
        time.sleep(0.002)
    return False


def losses(folder: Path) -> list[tuple[int, str]]:
    path = folder / 'losses.txt'
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(line.split()[0]), line.split()[1]) for line in lines]


def latest(folder: Path) -> dict[str, Any] | None:
    """The checkpoint that a resumed run would start from.

    Raises:
        Exception: if it is not whole, or not there.
    """
    if not (folder / 'last_checkpoint').exists():
        return None
    return torch.load(find_latest_checkpoint(str(folder)), weights_only=False)


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def compare(model: str, folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill runs until there were so many kills; every run is brought to its end."""
    toy = write_toy_dataset(folder / 'toy', 'camvid', train=5, val=1, size=(64, 96))
    whole = folder / f'{model}-whole'
    begin, first = time.monotonic(), 0.0
    child = start(model, toy, whole)
    while not ended(child, 0.01):
        first = first or (losses(whole) and time.monotonic() - begin) or 0.0
    span = time.monotonic() - begin
    expected, final = dict(losses(whole)), latest(whole)
    rng, killed, runs, rows = random.Random(seed), 0, 0, 0
    while killed < kills:
        own = folder / f'{model}-{runs}'
        seen = -1
        while True:
            child, begin = start(model, toy, own), time.monotonic()
            # From shortly before the first iteration until shortly before the end.
            moment = rng.uniform(0.9 * first, first + 0.8 * (span - first))
            if ended(child, moment if killed < kills else math.inf):
                if seen < 0:
                    # Another whole run, on a machine that had less else to do than before.
                    faster = min((time.monotonic() - begin) / span, 1.0)
                    first, span = faster * first, faster * span
                break
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            killed += 1
            checkpoint = latest(own)
            iteration = checkpoint['message_hub']['runtime_info']['iter'] if checkpoint else -1
            if iteration < seen:
                raise RuntimeError(f'{own.name} lost the checkpoint of iteration {seen}')
            seen = iteration
        found = losses(own)
        wrong = [(number, loss) for number, loss in found if expected[number] != loss]
        if wrong or {number for number, _ in found} != set(expected):
            raise RuntimeError(f'{own.name} has other losses: {wrong or found}, not {expected}')
        last = latest(own)
        for part in ('state_dict', 'optimizer'):
            if final is None or last is None or not equal(final[part], last[part]):
                raise RuntimeError(f'{own.name} ends with another {part}')
        runs, rows = runs + 1, rows + len(found)
    return dict(kills=killed, runs=runs, iterations=rows, repeated=rows - runs * LENGTH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('model', choices=['arta', 'step'])
    parser.add_argument('folder', type=Path)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # a process that has started threads must not be forked
    keep_formatted_text()
    keep_environment()
    engine.collect_env()  # here, so that all runs have it
    print(json.dumps(compare(args.model, args.folder, args.kills, args.seed)))


if __name__ == '__main__':
    sys.exit(main())
