"""The two checks of a config: by stock ``mim``, and one step at reduced depth."""

from __future__ import annotations

import copy
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS

from ..reduced import reduced_model
from .plan import Subject

SIDE = 128
ITERATIONS = 2
_LOADERS = ('train', 'val', 'test')
#: Options of transforms that are sizes in pixels.
_SIZES = ('scale', 'scales', 'crop_size', 'max_size', 'size')


def overrides(subject: Subject, data_root: Path, side: int = SIDE) -> dict[str, Any]:
    """``--cfg-options`` for two iterations and a test on a toy data set.

    Crops, windows and image sizes shrink by one factor, so that the crop's shorter side is
    ``side`` pixels. Nothing is loaded from checkpoints. Classifiers, which train in epochs, get
    one epoch: of two iterations, with the four toy images of the sweep.
    """
    config = subject.config
    options: dict[str, Any] = {
        'default_hooks.checkpoint.save_best': None,
        'default_hooks.checkpoint.save_optimizer': False,
        'default_hooks.logger.interval': 1,
    }
    if subject.codebase == 'mmpretrain':
        factor = min(side / min(config.image_size), 1.0)
        options |= {'train_cfg.max_epochs': 1, 'default_hooks.checkpoint.interval': 1}
    else:
        size = config.model.data_preprocessor['size']
        factor = side / min(size)
        options |= {
            'train_cfg.max_iters': ITERATIONS,
            'train_cfg.val_interval': 10**9,
            'default_hooks.checkpoint.interval': ITERATIONS,
            'model.data_preprocessor.size': _scaled(size, factor),
        }
    for loader in _LOADERS:
        key = f'{loader}_dataloader'
        if config.get(key) is None:
            continue
        options |= {
            f'{key}.num_workers': 0,
            f'{key}.persistent_workers': False,
            f'{key}.batch_size': 2 if loader == 'train' else 1,
        }
        dataset = subject.dataset_key(key)
        options[f'{dataset}.data_root'] = str(data_root)
        options |= _smaller_pipeline(subject, f'{dataset}.pipeline', factor)
    for key in ('crop_size', 'stride'):
        if key in config.model.get('test_cfg', {}):
            options[f'model.test_cfg.{key}'] = _scaled(config.model.test_cfg[key], factor)
    for key in _checkpoints(config.model, 'model'):
        options[key] = None
    if config.get('load_from'):
        options['load_from'] = None
    return options


def as_arguments(options: Mapping[str, Any]) -> list[str]:
    """Options as arguments of the stock command lines."""
    return ['--cfg-options', *(f'{key}={_text(value)}' for key, value in options.items())]


def _text(value: Any) -> str:
    return str(value).replace(' ', '') if isinstance(value, (list, tuple)) else str(value)


def _smaller_pipeline(subject: Subject, key: str, factor: float) -> dict[str, Any]:
    return {
        f'{key}.{number}.{name}': _scaled(step[name], factor)
        for number, step in enumerate(subject.at(key))
        for name in _SIZES
        if step.get(name) is not None
    }


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_scaled(item, factor) for item in value)
    return max(round(value * factor), 1)


def _checkpoints(value: Any, key: str) -> Iterator[str]:
    """Keys of everything that would be loaded into a model."""
    if isinstance(value, Mapping):
        if isinstance(value.get('pretrained'), str):
            yield f'{key}.pretrained'
        init = value.get('init_cfg')
        if isinstance(init, Mapping) and init.get('type') == 'Pretrained':
            yield f'{key}.init_cfg'
        items: Any = value.items()
    else:
        items = enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, item in items:
        yield from _checkpoints(item, f'{key}.{name}')


TIMEOUT = 3600  # seconds


def mim_command() -> str:
    """The ``mim`` command of this environment.

    Raises:
        RuntimeError: if there is none.
    """
    beside = Path(sys.executable).with_name('mim')
    command = str(beside) if beside.exists() else shutil.which('mim')
    if command is None:
        raise RuntimeError('no mim command was found; "make install" installs it (onedl-mim)')
    return command


def run_mim(subject: Subject, data_root: Path, work_dir: Path, log: IO[str]) -> None:
    """Train and test a config.

    Args:
        subject: the config.
        data_root: toy data set of its layout.
        work_dir: folder of the run; emptied before.
        log: what the commands print, and the commands themselves.

    Raises:
        RuntimeError: if a command fails or does not do what it should.
    """
    shutil.rmtree(work_dir, ignore_errors=True)
    options = overrides(subject, data_root)
    classifier = subject.codebase == 'mmpretrain'
    checkpoint = work_dir / ('epoch_1.pth' if classifier else f'iter_{ITERATIONS}.pth')
    codebase = 'mmpretrain' if classifier else 'mmsegmentation'
    train = ['train', codebase, str(subject.path)]
    _run([*train, *_place(work_dir), *as_arguments(options)], log)
    if not checkpoint.exists():
        raise RuntimeError(f'mim train wrote no {checkpoint}')
    test = ['test', codebase, str(subject.path), '--checkpoint', str(checkpoint)]
    _run([*test, *_place(work_dir / 'test'), *as_arguments(_of_test(options))], log)
    if not list((work_dir / 'test').glob('*/*.json')):
        raise RuntimeError(f'mim test wrote no metrics below {work_dir / "test"}')


def _place(work_dir: Path) -> list[str]:
    return ['--gpus', str(min(torch.cuda.device_count(), 1)), '--work-dir', str(work_dir)]


def _of_test(options: Mapping[str, Any]) -> dict[str, Any]:
    # A test must do without training data.
    return {
        key: 'missing' if key.startswith('train_') and key.endswith('data_root') else value
        for key, value in options.items()
    }


def _run(arguments: Sequence[str], log: IO[str]) -> None:
    command = [mim_command(), *arguments]
    print(f'$ {shlex.join(command)}', file=log, flush=True)
    # Threads that wait by spinning are slow where other programs run as well.
    environment = {'OMP_WAIT_POLICY': 'PASSIVE', **os.environ}
    try:
        code = subprocess.run(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=TIMEOUT,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        raise RuntimeError(f'mim {arguments[0]} did not end within {TIMEOUT} s') from None
    if code:
        raise RuntimeError(f'mim {arguments[0]} ended with exit code {code}')


def run_step(subject: Subject, data_root: Path, side: int = SIDE) -> None:
    """Feed a batch of two from the config's own data pipeline to its model at reduced depth.

    Raises:
        AssertionError: if the loss or a weight is not finite, a parameter gets no gradient, the
            prediction has another size than the image, or a classifier's are no probabilities.
    """
    torch.manual_seed(0)
    config = copy.deepcopy(subject.config)
    config.merge_from_dict(overrides(subject, data_root, side))
    init_default_scope(subject.codebase)
    built = reduced_model(config.model.to_dict())
    # MMEngine's runner takes it from here as well.
    built.setdefault('data_preprocessor', config.get('data_preprocessor'))
    # Stock segmentors read their test_cfg by attribute.
    model = MODELS.build(ConfigDict(built))
    model.init_weights()
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    data = DATASETS.build(config.train_dataloader.dataset)
    model.train()
    batch = model.data_preprocessor(pseudo_collate([data[0], data[1]]), training=True)
    loss, _ = model.parse_losses(model(**batch, mode='loss'))
    assert loss.isfinite(), f'the loss is {loss}'
    optimizer.backward(loss)
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    _check(
        'parameters without a gradient', [name for name, p in learning.items() if p.grad is None]
    )
    optimizer.step()
    broken = [name for name, p in learning.items() if not p.isfinite().all()]
    _check('weights that are not finite after a step', broken)
    model.eval()
    data = DATASETS.build(config.test_dataloader.dataset)
    sample = model.test_step(pseudo_collate([data[0]]))[0]
    if subject.codebase == 'mmpretrain':
        scores, classes = sample.pred_score, config.model.head.num_classes
        assert scores.shape == (classes,), f'{classes} classes, scores {tuple(scores.shape)}'
        assert abs(scores.sum().item() - 1.0) < 1e-3, f'the scores add up to {scores.sum()}'
        return
    size, wanted = tuple(sample.pred_sem_seg.data.shape[-2:]), tuple(sample.ori_shape)
    assert size == wanted, f'the prediction has {size} pixels (height, width), the image {wanted}'


def _check(what: str, names: list[str]) -> None:
    assert not names, f'{len(names)} {what}, such as {names[0]}'
