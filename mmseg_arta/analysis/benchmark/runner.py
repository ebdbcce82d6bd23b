"""One model, set up and run step by step; lives in a process of its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.models.segmentors import BaseSegmentor
from torch import Tensor, nn

from ...engine.cuda_graph import GraphedInference
from ...models.backbones.pretrained import drop_pretrained
from ...models.token_reduction.merging import ThresholdMerging
from ..compiled_launches import count_compiled, kernels_named
from ..flops.count import allocating_modules, count_run, forced_allocation, inference_mode
from ..flops.load import build_model, load_config
from ..flops.samples import prepare_batch
from ..launches import LaunchCounter
from .memory import PeakMemory
from .pictures import PictureStore
from .subjects import Conditions, Model

_AUTOCAST = {'bf16': torch.bfloat16, 'fp16': torch.float16}

# Random labels: squares of this side, pixels, each of one of so many classes of an image.
_SQUARE, _CLASSES = 64, 8


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        seconds: that it took.
        memory: bytes at most during it; 0 where that was not asked for.
    """

    seconds: float
    memory: int = 0


class Runner:
    """Builds a model and runs its steps.

    Args:
        model: which.
        conditions: how.
        pictures: on what.

    Raises:
        OSError, ValueError: if the config, the checkpoint or a setting does not fit.
    """

    def __init__(self, model: Model, conditions: Conditions, pictures: PictureStore) -> None:
        self._subject, self._conditions, self._pictures = model, conditions, pictures
        self._device = torch.device(conditions.device)
        self.memory = PeakMemory(self._device)
        self._base = self.memory.held()
        _set_precision(conditions.dtype)
        torch.manual_seed(0)
        self._config = load_config(model.config, model.options)
        built = build_model(self._config, model.checkpoint)
        if model.checkpoint is None:
            _initialize(built)
        self._model: Any = built.to(self._device)
        self._context = ExitStack()
        self._context.enter_context(forced_allocation(self._model, model.allocation))
        self._context.enter_context(inference_mode(self._model, conditions.mode))
        self._graphs: GraphedInference | None = None
        if conditions.cuda_graph:
            self._graphs = self._context.enter_context(GraphedInference(self._model))
        self._compiled: Any = self._model
        if conditions.compile:
            self._compiled = torch.compile(self._model)
        self._optimizer: Any = None
        self.memory.trim()

    def close(self) -> None:
        """Leave the GPU's memory to others."""
        self._context.close()
        self._model.cpu()
        self.rest()

    def describe(self) -> dict[str, Any]:
        """Parameters, bytes held without the model, and whether scores decide on its tokens."""
        return dict(
            params=sum(p.numel() for p in self._model.parameters()),
            base_bytes=self._base,
            adaptive=self._subject.allocation == 'model' and self._adaptive(),
        )

    def _adaptive(self) -> bool:
        backbone = getattr(self._model, 'backbone', None)
        # A fixed share of merged groups costs the same whatever the scores are.
        merges = isinstance(getattr(backbone, 'merging', None), ThresholdMerging)
        halts = getattr(backbone, 'halting', None) is not None
        return bool(allocating_modules(self._model)) or merges or halts

    def infer(self, first: int, steps: int) -> list[Step]:
        """Predictions for the batches ``first`` and following, preprocessing left out."""
        self._model.eval()
        return self._timed(self._predict, first, steps)

    def without_graph(self) -> list[str]:
        """Why predictions that were to be by CUDA graphs were not; empty where they were."""
        return [] if self._graphs is None else sorted(set(self._graphs.reasons.values()))

    def train(self, first: int, steps: int) -> list[Step]:
        """Training steps: forward, backward and optimiser, each with its peak of memory."""
        if self._optimizer is None:
            self._optimizer = _optimizer(self._model, self._config)
        self._model.train()
        return self._timed(self._learn, first, steps, each_peak=True)

    def count(self, number: int) -> dict[str, Any]:
        """Operations of one image; see :func:`~mmseg_arta.analysis.flops.count_operations`."""
        pixels, _ = self._pictures.batch(number, 1)
        inputs, samples = self._prepare(pixels)
        allocation = self._subject.allocation
        found = count_run(
            self._model,
            lambda: self._model(inputs, samples, mode='predict'),
            self._conditions.shape,
            allocation,
            self._conditions.mode,
            dry=allocation != 'model',
        )
        return found.to_dict()

    def launches(self, number: int, train: bool = False) -> LaunchCounter:
        """What a prediction or a training step asks of a device."""
        pixels, labels = self._pictures.batch(number, self._conditions.batch_size)
        inputs, samples = self._prepare(pixels)
        counter = LaunchCounter(self._model)
        if not train:
            self._model.eval()
            with counter, torch.no_grad(), self._autocast():
                self._model(inputs, samples, mode='predict')
            return counter
        self._label(samples, labels, tuple(inputs.shape[2:]), number)
        optimizer = self._optimizer = self._optimizer or _optimizer(self._model, self._config)
        _many_at_once(optimizer)
        self._model.train()
        with counter:
            with self._autocast():
                loss, _ = self._model.parse_losses(self._model(inputs, samples, mode='loss'))
            counter.phase = 'backward'
            optimizer.backward(loss)
            counter.phase = 'optimizer'
            counter.on_host = partial(_counts_steps, optimizer.optimizer)
            optimizer.step()
            optimizer.zero_grad()
        return counter

    def compiled_launches(self, number: int) -> Counter[str]:
        """Kernels that a prediction of the compiled model starts, by name; on a CPU."""
        pixels, _ = self._pictures.batch(number, self._conditions.batch_size)
        inputs, samples = self._prepare(pixels)
        self._model.eval()
        with kernels_named():
            return count_compiled(lambda: self._predict(inputs, samples))

    def not_finite(self) -> list[str]:
        """Names of parameters that are not finite."""
        named = self._model.named_parameters()
        return [name for name, value in named if not bool(value.isfinite().all())]

    def reset_peak(self) -> None:
        """Start the run whose memory counts."""
        self.memory.trim()
        self.memory.reset()

    def peak(self) -> int:
        """Bytes at most since :meth:`reset_peak`."""
        return self.memory.read()

    def rest(self) -> None:
        """Let the others have what this process holds unused."""
        if self._device.type == 'cuda':
            torch.cuda.empty_cache()

    def _prepare(self, pixels: Any) -> tuple[Tensor, list[Any]]:
        inputs, samples = prepare_batch(self._model, pixels)
        return inputs.to(self._device), samples

    def _predict(self, inputs: Tensor, samples: list[Any]) -> None:
        with torch.no_grad(), self._autocast():
            self._compiled(inputs, samples, mode='predict')

    def _learn(self, inputs: Tensor, samples: list[Any]) -> None:
        with self._autocast():
            loss, _ = self._model.parse_losses(self._compiled(inputs, samples, mode='loss'))
        self._optimizer.update_params(loss)

    def _autocast(self) -> Any:
        dtype = _AUTOCAST.get(self._conditions.dtype)
        return nullcontext() if dtype is None else torch.autocast(self._device.type, dtype)

    def _timed(
        self,
        step: Callable[[Tensor, list[Any]], None],
        first: int,
        steps: int,
        each_peak: bool = False,
    ) -> list[Step]:
        clock = time.perf_counter if self._conditions.clock == 'wall' else time.process_time
        found = []
        for number in range(first, first + steps):
            pixels, labels = self._pictures.batch(number, self._conditions.batch_size)
            inputs, samples = self._prepare(pixels)
            if each_peak:
                self._label(samples, labels, tuple(inputs.shape[2:]), number)
                self.memory.reset()
            self._wait()
            begin = clock()
            step(inputs, samples)
            self._wait()
            seconds = clock() - begin
            found.append(Step(seconds, self.memory.read() if each_peak else 0))
        return found

    def _wait(self) -> None:
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)

    def _label(self, samples: list[Any], labels: Any, size: tuple[int, ...], seed: int) -> None:
        """The data set's labels, or squares of random classes."""
        if labels is not None:
            found = torch.from_numpy(labels).long()
        else:
            found = _random_labels(len(samples), size, self._model.decode_head.num_classes, seed)
        for sample, one in zip(samples, found, strict=True):
            sample.gt_sem_seg = PixelData(data=one[None].to(self._device))


def _random_labels(count: int, size: tuple[int, ...], classes: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (-(-side // _SQUARE) for side in size)
    some = torch.randint(classes, (count, _CLASSES), generator=generator)
    choice = torch.randint(_CLASSES, (count, rows * columns), generator=generator)
    squares = some.gather(1, choice).view(count, rows, columns)
    whole = squares.repeat_interleave(_SQUARE, 1).repeat_interleave(_SQUARE, 2)
    return whole[:, : size[0], : size[1]]


def _set_precision(dtype: str) -> None:
    """'fp32' is float32 throughout; tensor cores round its products only for 'tf32'."""
    torch.backends.cuda.matmul.allow_tf32 = dtype == 'tf32'
    torch.backends.cudnn.allow_tf32 = dtype == 'tf32'
    torch.backends.cudnn.benchmark = True


def _initialize(model: BaseSegmentor) -> None:
    """Random weights as training would start from, without those of pre-training."""
    drop_pretrained(model)
    logger = MMLogger.get_current_instance()
    level = logger.level
    # Without a log file MMEngine tells of every parameter on the terminal.
    logger.setLevel('WARNING')
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)


def _optimizer(model: nn.Module, config: Config) -> Any:
    """The config's optimiser; number types are this module's own affair."""
    found = dict(config.get('optim_wrapper') or dict(optimizer=dict(type='AdamW', lr=6e-5)))
    for name in ('dtype', 'loss_scale', 'use_fsdp'):
        found.pop(name, None)
    return build_optim_wrapper(model, ConfigDict({**found, 'type': 'OptimWrapper'}))


def _counts_steps(optimizer: torch.optim.Optimizer, tensor: Tensor) -> bool:
    """Whether a tensor is a parameter's number of steps, which optimisers keep on the host."""
    return any(state.get('step') is tensor for state in optimizer.state.values())


def _many_at_once(optimizer: Any) -> None:
    """Let an optimiser step many tensors at once, as it does on a GPU if nothing else is said."""
    for group in optimizer.param_groups:
        if group.get('foreach', False) is None and not group.get('fused'):
            group['foreach'] = True
