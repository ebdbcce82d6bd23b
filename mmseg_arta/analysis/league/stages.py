"""The commands of the stages, and what is read from what they leave behind."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mmengine.config import Config

from ...files import replaced, write_text
from ..sweep.jobs import mim_command
from .plan import Entry, Run
from .records import Store

#: Test modes of the stages that test.
MODES = {'whole': 'whole', 'windows': 'slide'}

_REASON = 300
# In the folder of a training: bytes at most resident in its attempts until now.
_PEAK = 'peak_bytes'
# Lines of tracebacks that only say that a command failed.
_EMPTY = ('CalledProcessError', 'ChildFailedError')


@dataclass(frozen=True)
class Place:
    """Where runs run.

    Attributes:
        device: 'cpu', 'cuda' or 'cuda:N'.
    """

    device: str = 'cpu'

    @property
    def gpus(self) -> str:
        """The argument of mim."""
        return '0' if self.device == 'cpu' else '1'

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Of the commands: on a CPU one thread, and no GPU to be found."""
        found = dict(os.environ if base is None else base)
        # Threads that wait by spinning are slow where other programs run as well.
        found.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
        if self.device == 'cpu':
            found |= dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS'), '1')
            found['CUDA_VISIBLE_DEVICES'] = ''
        elif ':' in self.device:
            number = int(self.device.partition(':')[2])
            seen = found.get('CUDA_VISIBLE_DEVICES')
            found['CUDA_VISIBLE_DEVICES'] = seen.split(',')[number] if seen else str(number)
        return found


class StageFailed(RuntimeError):
    """A stage ended without what it was to leave behind."""


def command(run: Run, stage: str, store: Store, place: Place) -> list[str]:
    """Write the configs of a stage; the command that runs it.

    What an earlier attempt left is removed, except for what training resumes from.
    """
    folder = store.of(run)
    folder.mkdir(parents=True, exist_ok=True)
    work_dir = folder / stage
    if stage != 'train' or checkpoint_of(work_dir) is None:
        shutil.rmtree(work_dir, ignore_errors=True)
    if stage == 'train':
        config = _dump(train_config(run), folder / 'train.py')
        found = [mim_command(), 'train', 'mmsegmentation', str(config)]
        found += ['--gpus', place.gpus, '--work-dir', str(work_dir)]
        checkpoint = checkpoint_of(work_dir)
        if checkpoint is not None:
            # MMEngine resumes from the whole path in this file, or from load_from, if there is one.
            write_text(work_dir / 'last_checkpoint', str(checkpoint))
            found += ['--resume', '--cfg-options', 'load_from=None']
        return found
    checkpoint = checkpoint_of(folder / 'train')
    if checkpoint is None:
        raise StageFailed(f'the checkpoint of {run.name} is gone from {folder / "train"}')
    if stage in MODES:
        config = _dump(test_config(run.entry, stage, work_dir), folder / f'{stage}.py')
        found = [mim_command(), 'test', 'mmsegmentation', str(config)]
        found += ['--checkpoint', str(checkpoint), '--gpus', place.gpus]
        return [*found, '--work-dir', str(work_dir)]
    device = 'cpu' if place.device == 'cpu' else 'cuda'
    module = 'mmseg_arta.analysis.league.measure'
    return [sys.executable, '-m', module, str(folder), str(checkpoint), '--device', device]


def train_config(run: Run) -> Config:
    """The config of a training: with its seed."""
    config = copy.deepcopy(run.entry.config)
    config.randomness = {**(config.get('randomness') or {}), 'seed': run.seed}
    return config


def test_config(entry: Entry, stage: str, work_dir: Path) -> Config:
    """The config of a test: IoU of the test set, predictions kept as images.

    Validation is done on the test set too, as tools that look at the former shall measure there.
    """
    config = copy.deepcopy(entry.config)
    height, width = entry.crop
    windows = dict(crop_size=(height, width), stride=(height - height // 3, width - width // 3))
    before = config.model.get('test_cfg') or {}
    config.model.test_cfg = {**before, **windows, 'mode': MODES[stage]}
    config.test_evaluator = dict(
        type='IoUMetric', iou_metrics=['mIoU'], output_dir=str(work_dir / 'predictions')
    )
    config.test_cfg = dict(type='TestLoop')
    config.val_cfg = dict(type='ValLoop')
    config.val_dataloader = copy.deepcopy(config.test_dataloader)
    config.val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    return config


def checkpoint_of(work_dir: Path) -> Path | None:
    """The last checkpoint of a training, wherever its folder has moved; None if there is none."""
    try:
        name = Path((work_dir / 'last_checkpoint').read_text(encoding='utf-8').strip()).name
    except FileNotFoundError:
        return None
    return work_dir / name if name and (work_dir / name).is_file() else None


def number_of(checkpoint: Path | None) -> int:
    """Iterations or epochs that a checkpoint has seen, by its name; 0 without one."""
    found = re.search(r'(\d+)$', checkpoint.stem) if checkpoint is not None else None
    return int(found[1]) if found else 0


def figures(run: Run, stage: str, store: Store, peak: int | None) -> dict[str, Any]:
    """What a stage came to, once its command has ended well.

    Args:
        run, stage, store: which.
        peak: bytes at most resident in a process of the command; None if that is not known.

    Raises:
        StageFailed: if that is nothing.
    """
    folder = store.of(run) / stage
    if stage == 'train':
        return train_figures(folder, run.entry.length, keep_peak(folder, peak))
    if stage in MODES:
        found = newest_metrics(folder)
        if not isinstance(found.get('mIoU'), (int, float)) or not math.isfinite(found['mIoU']):
            raise StageFailed(f'the test found no mIoU: {found}')
        return {name: found[name] for name in ('mIoU', 'mAcc', 'aAcc') if name in found}
    try:
        return json.loads((folder / 'figures.json').read_text(encoding='utf-8'))
    except (FileNotFoundError, ValueError):
        raise StageFailed(f'no figures were written to {folder}') from None


def keep_peak(work_dir: Path, peak: int | None) -> int | None:
    """The most memory of a training, attempts that were interrupted included.

    Args:
        work_dir: of the training, where it is written for the next attempt.
        peak: bytes of the last attempt; None if that is not known.
    """
    file = work_dir / _PEAK
    with suppress(OSError, ValueError):
        before = int(file.read_text(encoding='utf-8'))
        peak = before if peak is None else max(before, peak)
    if peak is not None and work_dir.is_dir():
        write_text(file, f'{peak}\n')
    return peak


def train_figures(work_dir: Path, length: int | None, peak: int | None) -> dict[str, Any]:
    """Seconds per iteration, memory and the last loss of a training.

    Args:
        work_dir: of the training.
        length: iterations or epochs that it should have.
        peak: see :func:`figures`.

    Raises:
        StageFailed: if it is not at its end, or has diverged.
    """
    checkpoint = checkpoint_of(work_dir)
    if checkpoint is None:
        raise StageFailed('the training wrote no checkpoint')
    if length is not None and number_of(checkpoint) < length:
        raise StageFailed(f'the last checkpoint is {checkpoint.name}, expected {length}')
    lines = list(logged_losses(work_dir))
    for line in lines:
        if not math.isfinite(line['loss']):
            raise StageFailed(f'diverged: the loss is {line["loss"]} at step {line.get("step")}')
    times = [line['time'] for line in lines if 'time' in line]
    # In MB, of PyTorch's own memory on a GPU.
    memory = [line['memory'] for line in lines if 'memory' in line]
    return dict(
        checkpoint=checkpoint.name,
        iteration_seconds=median(times) if times else None,
        memory_bytes=max(memory) * 2**20 if memory else peak,
        memory_of='allocated on the GPU' if memory else 'resident set of the process',
        loss=lines[-1]['loss'] if lines else None,
    )


def logged_losses(work_dir: Path) -> Iterator[dict[str, Any]]:
    """The lines of a training's logs that hold a loss, by step; what was done again counts."""
    lines: dict[int, dict[str, Any]] = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8').splitlines():
            try:
                found = json.loads(line)
            except ValueError:  # the line at which a run was killed
                continue
            if isinstance(found, dict) and isinstance(found.get('loss'), (int, float)):
                lines[found.get('step', len(lines))] = found
    yield from (lines[step] for step in sorted(lines))


def newest_metrics(work_dir: Path) -> dict[str, Any]:
    """The metrics that the last test in a folder wrote; nothing if there was none."""
    for path in sorted(work_dir.glob('*/*.json'), reverse=True):
        try:
            found = json.loads(path.read_text(encoding='utf-8'))
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}


def reason_of(text: str, code: int) -> str:
    """Why a command failed: the last error that its output names.

    Args:
        text: its output.
        code: its exit code, negative for a signal.
    """
    killed = -code if code < 0 else _signal(text)
    if killed == 9:
        return 'killed by signal 9, as systems do when memory runs out'
    if killed:
        return f'ended by signal {killed}'
    errors = [
        line.strip()
        for line in text.splitlines()
        if re.match(r'[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Warning|Failed)\b', line)
    ]
    said = [line for line in errors if not any(name in line.split(':')[0] for name in _EMPTY)]
    other = [line.strip() for line in text.splitlines() if line.strip()]
    last = (said or other or [f'exit code {code}'])[-1]
    return last if len(last) <= _REASON else f'{last[:_REASON]} ...'


def _signal(text: str) -> int:
    """The signal that ended the command inside a command, as Python tells of it."""
    found = re.findall(r'died with <Signals\.\w+: (\d+)>', text[-4000:])
    return int(found[-1]) if found else 0


def _dump(config: Config, path: Path) -> Path:
    with replaced(path) as part:
        config.dump(str(part))
    return path
