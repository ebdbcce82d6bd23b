"""What is compared, and under which conditions: from the command line to checked descriptions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from ...command_line import Settings
from ...models.backbones.mixed_encoder import MixedResolutionEncoder
from ..devices import check_device
from ..flops.count import check_allocation
from ..flops.load import load_config
from .accuracy import published_miou

DTYPES = ('fp32', 'bf16', 'fp16', 'tf32')
CLOCKS = ('wall', 'processor')

# Sides of the groups that policy networks score, in the order in which STEP names thresholds.
_GROUP_SIZES = (2, 4, 8, 16)


@dataclass(frozen=True)
class Model:
    """A config with what may differ from model to model.

    Attributes:
        config: path or name.
        options: settings changed in it, by dotted name.
        checkpoint: file with weights; random ones without.
        allocation: see :func:`~mmseg_arta.analysis.flops.count.forced_allocation`.
        miou: in percent, if it is known.
        label: of its rows and its point.
    """

    config: str
    options: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    allocation: str = 'model'
    miou: float | None = None
    label: str = ''


@dataclass(frozen=True)
class Conditions:
    """What is the same for all models of a run.

    Attributes:
        shape: height and width of the images, pixels.
        batch_size: images per step.
        device: of PyTorch.
        dtype: 'fp32'; 'tf32', the same with tensor cores; 'bf16' and 'fp16' by autocast.
        compile: by ``torch.compile``.
        mode: of inference, 'whole', 'slide' or 'config'.
        clock: 'wall', or 'processor' for the time that the process itself computed.
        cuda_graph: predictions by CUDA graphs, see
            :class:`~mmseg_arta.engine.cuda_graph.GraphedInference`.
    """

    shape: tuple[int, int]
    batch_size: int = 1
    device: str = 'cpu'
    dtype: str = 'fp32'
    compile: bool = False
    mode: str = 'whole'
    clock: str = 'wall'
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 1:
            raise ValueError(f'--shape takes two positive numbers, found {list(self.shape)}')
        if self.batch_size < 1:
            raise ValueError(f'--batch-size must be at least 1, found {self.batch_size}')
        kind = torch.device(check_device(self.device)).type
        if self.dtype == 'tf32' and kind != 'cuda':
            raise ValueError(f'--dtype tf32 needs a CUDA device, found --device {self.device}')
        if self.cuda_graph and kind != 'cuda':
            raise ValueError(f'--cuda-graph needs a CUDA device, found --device {self.device}')
        if self.cuda_graph and self.compile:
            raise ValueError('--cuda-graph is of eager mode: give it or --compile, not both')
        if self.clock == 'processor' and (kind == 'cuda' or torch.get_num_threads() > 1):
            raise ValueError(
                '--clock processor needs a CPU and one thread (OMP_NUM_THREADS=1), found '
                f'--device {self.device} and {torch.get_num_threads()} threads'
            )


def read_models(
    words: Sequence[str],
    *,
    checkpoints: Sequence[str] = (),
    allocations: Sequence[str] = (),
    mious: Sequence[str] = (),
    labels: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    halt_after: Sequence[Sequence[int]] = (),
    thresholds: Sequence[Mapping[int, float]] = (),
) -> list[Model]:
    """The models of a command line, checked as far as that goes without building them.

    Args:
        words: configs, each followed by settings ``KEY=VALUE`` of its own.
        checkpoints, mious, labels: none, or one per config in order; '-' for random weights, the
            mIoU of the metafile, and a label made of the config's name.
        allocations: none, one for every model that allocates tokens, or one per config.
        options: settings of all configs.
        halt_after: for backbones that halt tokens: each becomes one model per placement.
        thresholds: for backbones that merge by thresholds: one model per set of them, by group
            side in patches.

    Raises:
        OSError: if there is no such file.
        ValueError: for anything else that does not fit.
    """
    entries = _entries(words)
    count = len(entries)
    files = [None if name == '-' else name for name in _each('--checkpoint', checkpoints, count)]
    given = _each('--allocation', allocations, count, shared=True)
    names = _each('--label', labels, count)
    known = [_miou(text) for text in _each('--miou', mious, count)]
    models: list[Model] = []
    for number, (config, own) in enumerate(entries):
        settings = {**(options or {}), **own}
        loaded = load_config(config, settings)
        check_codebase(config, loaded)
        file, allocation = files[number], given[number] or 'model'
        allocation = 'model' if allocation == '-' else allocation
        check_allocation(allocation)
        if file is not None and '://' not in file and not Path(file).is_file():
            raise FileNotFoundError(f'checkpoint {file!r} does not exist')
        if len(allocations) == 1 and not _allocates(loaded):
            allocation = 'model'
        miou = known[number]
        if miou is None and not own and not options and allocation == 'model':
            miou = published_miou(Path(str(loaded.filename)))
        label = names[number]
        model = Model(config, settings, file, allocation, miou, '' if label == '-' else label or '')
        models += _variants(model, loaded, halt_after, thresholds)
    if halt_after and not any('model.backbone.halting.after' in m.options for m in models):
        raise ValueError('--halt-after needs a config with backbone.halting (DToP or STEP)')
    if thresholds and not any('model.backbone.merging.thresholds' in m.options for m in models):
        raise ValueError('--thresholds needs a config with ThresholdMerging (dCTS or STEP)')
    if (
        allocations
        and allocations[0] not in ('model', '-')
        and not any(model.allocation != 'model' for model in models)
    ):
        raise ValueError(
            f'--allocation {allocations[0]} needs a model that allocates tokens by a policy '
            '(such as ARTA), found none'
        )
    return _labelled(models)


def parse_thresholds(text: str) -> dict[int, float]:
    """'0.6,0.8' or '2:0.6,8:0.9' to thresholds by group side in patches, 2 first.

    Raises:
        ValueError: for anything else, as more of them than sides, or two of one side.
    """
    found: dict[int, float] = {}
    for number, item in enumerate(text.split(',')):
        name, _, value = item.rpartition(':')
        if not name and number >= len(_GROUP_SIZES):
            sides = ', '.join(map(str, _GROUP_SIZES))
            raise ValueError(f'thresholds are of groups of {sides} patches, found {text!r}')
        size, threshold = int(name) if name else _GROUP_SIZES[number], float(value)
        if size in found or math.isnan(threshold):
            raise ValueError(f'thresholds are numbers, one per group side, found {text!r}')
        found[size] = threshold
    return found


def _entries(words: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    entries: list[tuple[str, list[str]]] = []
    for word in words:
        if '=' not in word or Path(word).is_file():
            entries.append((word, []))
        elif entries:
            entries[-1][1].append(word)
        else:
            raise ValueError(f'the setting {word} stands before any config')
    return [(config, Settings.parse(own)) for config, own in entries]


def _each(
    option: str, values: Sequence[str], count: int, shared: bool = False
) -> list[str] | list[None]:
    if not values:
        return [None] * count
    if len(values) == 1 and shared:
        return list(values) * count
    if len(values) != count:
        either = 'one for all or ' if shared else ''
        raise ValueError(f'{option} takes {either}one per config, {count}, found {len(values)}')
    return list(values)


def _miou(text: str | None) -> float | None:
    if text in (None, '-'):
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"--miou takes numbers, or '-' for the metafile's, found {text!r}"
        ) from None


def check_codebase(name: str, config: Config) -> None:
    """Raise ValueError unless a config is one of MMSegmentation's, or of a plugin of it."""
    scope = config.get('default_scope') or 'mmseg'
    if scope != 'mmseg':
        raise ValueError(f'config {name!r} is for {scope}; only those of MMSegmentation will do')
    if not isinstance(config.model, Mapping) or 'type' not in config.model:
        raise ValueError(f'config {name!r} has a model of another framework: it has no type')


def _allocates(config: Config) -> bool:
    kind = config.model.get('backbone', {}).get('type')
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    return isinstance(found, type) and issubclass(found, MixedResolutionEncoder)


def _variants(
    model: Model,
    config: Config,
    halt_after: Sequence[Sequence[int]],
    thresholds: Sequence[Mapping[int, float]],
) -> list[Model]:
    backbone = config.model.get('backbone', {})
    models = [model]
    if halt_after and backbone.get('halting'):
        models = [
            _varied(one, 'halting.after', tuple(after), f'after {",".join(map(str, after))}')
            for one in models
            for after in halt_after
        ]
    if thresholds and (backbone.get('merging') or {}).get('type') == 'ThresholdMerging':
        models = [
            _varied(
                one,
                'merging.thresholds',
                {'_delete_': True, **{str(size): value for size, value in found.items()}},
                f'thresholds {",".join(f"{value:g}" for value in found.values())}',
            )
            for one in models
            for found in thresholds
        ]
    return models


def _varied(model: Model, name: str, value: Any, text: str) -> Model:
    options = {**model.options, f'model.backbone.{name}': value}
    label = f'{model.label or _short(model)} {text}'
    return replace(model, options=options, label=label, miou=None)


def _short(model: Model) -> str:
    """Backbone and head of the config's name, and what was changed."""
    return '_'.join(_stem(model).split('_')[:2]) + _changes(model)


def _stem(model: Model) -> str:
    return Path(model.config.rpartition('::')[2]).stem


def _changes(model: Model) -> str:
    changes = [] if model.allocation == 'model' else [model.allocation]
    changes += [
        f'{key.rpartition(".")[2]}={value}'
        for key, value in model.options.items()
        if not key.endswith('data_root')
    ]
    return ''.join(f', {change}' for change in changes)


def _labelled(models: Sequence[Model]) -> list[Model]:
    """With labels that differ: short ones, or the config's whole name, or numbered."""
    often = Counter(model.label or _short(model) for model in models)
    seen: Counter[str] = Counter()
    result = []
    for model in models:
        label = model.label or _short(model)
        if often[label] > 1 and not model.label:
            label = _stem(model) + _changes(model)
        seen[label] += 1
        number = f' ({seen[label]})' if seen[label] > 1 else ''
        result.append(replace(model, label=label + number))
    return result
