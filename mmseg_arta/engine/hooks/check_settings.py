"""What several parts of a config state is the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class CheckSettingsHook(Hook):
    """Stop before training where heads, data and padding disagree about labels.

    - ``ignore_index`` is stated by heads, segmentors, the data set, ``CheckLabels``, metrics and
      hooks, and as ``seg_pad_val`` by the preprocessor: a part that states another value learns
      from pixels that all others leave out.
    - no head has fewer classes than the data set.

    Raises:
        ValueError: on use, with every place and what it states.
    """

    def before_train(self, runner: Runner) -> None:
        """With model, data and hooks built."""
        model = getattr(runner.model, 'module', runner.model)
        datasets = list(_datasets(runner.train_dataloader.dataset))
        stated = dict(_ignored(model, datasets, runner))
        if len(set(stated.values())) > 1:
            places = ', '.join(f'{place}={value}' for place, value in stated.items())
            raise ValueError(f'expected one ignore_index in all places, found {places}')
        for dataset in datasets:
            names = (getattr(dataset, 'metainfo', None) or {}).get('classes')
            for place, classes in _classes(model):
                if names is not None and classes < len(names):
                    raise ValueError(
                        f'{place}.num_classes is {classes}, but {type(dataset).__name__} has '
                        f'{len(names)} classes: expected at least as many'
                    )


def _ignored(model: Any, datasets: list[Any], runner: Runner) -> Iterator[tuple[str, int]]:
    for name, module in model.named_modules():
        value = getattr(module, 'ignore_index', None)
        if isinstance(value, int):
            yield f'{name or type(module).__name__}.ignore_index', value
    preprocessor = getattr(model, 'data_preprocessor', None)
    # Without a size nothing is padded.
    sized = any(getattr(preprocessor, key, None) is not None for key in ('size', 'size_divisor'))
    value = getattr(preprocessor, 'seg_pad_val', None)
    if sized and isinstance(value, int):
        yield 'data_preprocessor.seg_pad_val', value
    for dataset in datasets:
        value = getattr(dataset, 'ignore_index', None)
        if isinstance(value, int):
            yield f'{type(dataset).__name__}.ignore_index', value
        for step in getattr(getattr(dataset, 'pipeline', None), 'transforms', ()):
            value = getattr(step, 'ignore_index', None)
            if isinstance(value, int):
                yield f'{type(step).__name__}.ignore_index', value
    metrics = getattr(getattr(runner.val_loop, 'evaluator', None), 'metrics', ())
    for part in [*metrics, *runner.hooks]:
        value = getattr(part, 'ignore_index', None)
        if isinstance(value, int):
            yield f'{type(part).__name__}.ignore_index', value


def _classes(model: Any) -> Iterator[tuple[str, int]]:
    """Of heads that classify."""
    for name in ('decode_head', 'auxiliary_head'):
        head = getattr(model, name, None)
        heads = [head] if not hasattr(head, '__getitem__') else list(head)
        for one in heads:
            value = getattr(one, 'num_classes', None)
            # A head that predicts something else only states what its labels are.
            if isinstance(value, int) and getattr(one, 'out_channels', None) in (value, 1):
                yield name, value


def _datasets(dataset: Any) -> Iterator[Any]:
    """The data sets inside of wrappers."""
    inner = getattr(dataset, 'datasets', None) or getattr(dataset, 'dataset', None)
    if inner is None or isinstance(inner, Mapping):
        yield dataset
    elif isinstance(inner, (list, tuple)):
        for one in inner:
            yield from _datasets(one)
    else:
        yield from _datasets(inner)
