"""Which configs compete, with which seeds, in which order."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..benchmark.subjects import check_codebase, read_models
from ..flops.load import load_config
from ..sweep.plan import Subject

LOADERS = ('train_dataloader', 'test_dataloader', 'val_dataloader')
_LARGEST_SEED = 2**32 - 1
# Characters of a key, which is the name of a folder.
_KEY = 100
#: Settings that say where something lies or which run it is; results do not depend on them.
_PLACES = ('data_root', 'work_dir')


@dataclass(frozen=True)
class Entry:
    """A config that competes.

    Attributes:
        key: the config's name with the settings of its own; names its folder and its results.
        name: of the config, without folders.
        settings: of its own, by dotted name.
        config: what all settings make of it.
        digest: hash of the resolved content, whatever the seed and wherever the data lie.
    """

    key: str
    name: str
    settings: Mapping[str, Any]
    config: Config
    digest: str

    @property
    def iterations(self) -> int | None:
        """Training iterations; None where training goes by epochs."""
        return self.config.get('train_cfg', {}).get('max_iters')

    @property
    def length(self) -> int | None:
        """Of training, in what checkpoints are numbered by: iterations or epochs."""
        cfg = self.config.get('train_cfg', {})
        return cfg.get('max_iters') or cfg.get('max_epochs')

    @property
    def crop(self) -> tuple[int, int]:
        """Height and width of training crops, see :func:`crop_of`."""
        return crop_of(self.config)

    def about(self) -> dict[str, Any]:
        """What results say about the config."""
        return dict(
            config=self.name,
            settings={key: value for key, value in self.settings.items() if not _is_place(key)},
            digest=self.digest,
            iterations=self.iterations,
            epochs=self.config.get('train_cfg', {}).get('max_epochs'),
            batch_size=self.config.train_dataloader.get('batch_size'),
            crop=list(self.crop),
            data=test_set_of(self.config),
        )


@dataclass(frozen=True)
class Run:
    """A config with a seed."""

    entry: Entry
    seed: int

    @property
    def name(self) -> str:
        """In messages."""
        return f'{self.entry.key}, seed {self.seed}'


def read_entries(
    words: Sequence[str],
    options: Mapping[str, Any] | None = None,
    data: str | None = None,
    common: Path | None = None,
) -> list[Entry]:
    """The configs of a command line, checked as far as that goes without building models.

    Args:
        words: configs by name or path, each followed by settings ``KEY=VALUE`` of its own.
        options: settings of all configs; those of their own come last.
        common: a file with settings of all configs, which come first: data, crops, lengths.
        data: the folder of the data set, in place of every ``data_root``.

    Raises:
        OSError: if there is no such config, or its images are not there.
        ValueError: for anything else that does not fit.
    """
    entries: list[Entry] = []
    shared = {} if common is None else _read_common(common)
    for model in read_models(words):
        # One after the other: a file replaces what dotted names then change.
        config = load_config(model.config, shared)
        try:
            config.merge_from_dict({**copy.deepcopy(dict(options or {})), **model.options})
            check_codebase(model.config, config)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'config {model.config!r} with the settings of all configs (--common, '
                f'--cfg-options): {error}'
            ) from error
        name = Path(str(config.filename)).stem
        _check_parts(model.config, config)
        if data is not None:
            for dataset in _datasets(config):
                dataset['data_root'] = data
        entry = Entry(_key(name, model.options), name, model.options, config, digest_of(config))
        entry.crop  # noqa: B018  says what is missing
        _check_images(entry)
        entries.append(entry)
    _check_together(entries)
    return entries


def _check_parts(name: str, config: Config) -> None:
    """What training and testing need of a config."""
    for part in (*LOADERS[:2], 'train_cfg', 'optim_wrapper'):
        value = config.get(part)
        if not value:
            raise ValueError(f'config {name!r} has no {part}: it cannot be trained')
        if not isinstance(value, Mapping):
            raise ValueError(f'config {name!r}: {part} must be a dict, found {value!r}')
        if part in LOADERS and not isinstance(value.get('dataset'), Mapping):
            found = value.get('dataset')
            raise ValueError(f'config {name!r}: {part}.dataset must be a dict, found {found!r}')


def parse_seeds(texts: Sequence[str]) -> list[int]:
    """Seeds in the order given, each once.

    Raises:
        ValueError: if one is none.
    """
    for text in texts:
        if not text.isdecimal() or int(text) > _LARGEST_SEED:
            raise ValueError(f'--seeds takes integers from 0 to {_LARGEST_SEED}, found {text!r}')
    return list(dict.fromkeys(int(text) for text in texts))


def runs_in_order(entries: Sequence[Entry], seeds: Sequence[int]) -> list[Run]:
    """Every config with the first seed, then with the second: half of a league is one as well."""
    return [Run(entry, seed) for seed in seeds for entry in entries]


def digest_of(config: Config) -> str:
    """Hash of a config's content, whatever its seed and wherever its data lie."""
    content = _without_places(config.to_dict())
    if isinstance(content.get('randomness'), dict):
        content['randomness'].pop('seed', None)
    return Subject(Path('config.py'), Config(content)).digest


def crop_of(config: Config) -> tuple[int, int]:
    """Height and width of a config's training crops: of its last transform that crops at random.

    Without one, the size that its preprocessor pads batches to.

    Raises:
        ValueError: if there is neither.
    """
    found = [
        step['crop_size']
        for step in _steps(config.train_dataloader.dataset)
        if step.get('crop_size') is not None and 'Crop' in str(step.get('type'))
    ]
    preprocessor = config.model.get('data_preprocessor') or {}
    size = found[-1] if found else preprocessor.get('size')
    if size is None:
        name = Path(str(config.filename)).name
        raise ValueError(
            f'config {name} has neither a random crop in its training pipeline nor '
            'model.data_preprocessor.size: the size of the windows to test with is not known'
        )
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def test_set_of(config: Config) -> dict[str, Any]:
    """What tells a test set from another one: its class, folders, and which images of them."""
    dataset = config.test_dataloader.dataset.to_dict()
    names = ('type', 'data_prefix', 'ann_file', 'indices')
    return {name: dataset[name] for name in names if dataset.get(name)}


def _read_common(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f'--common {path}: there is no such file')
    try:
        return Config.fromfile(path).to_dict()
    except Exception as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise ValueError(f'--common {path} cannot be read: {reason}') from error


def _key(name: str, settings: Mapping[str, Any]) -> str:
    changes = [f'{key}={value}' for key, value in settings.items() if not _is_place(key)]
    key = '+'.join([name, *changes])
    safe = re.sub(r'[^\w.+=-]+', '-', key)
    if len(safe) <= _KEY and safe == key:
        return safe
    # Two that differ must not share a folder.
    return f'{safe[:_KEY]}-{hashlib.sha256(key.encode()).hexdigest()[:6]}'


def _is_place(key: str) -> bool:
    return key.rpartition('.')[2] in _PLACES


def _without_places(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_places(v) for k, v in value.items() if k not in _PLACES}
    if isinstance(value, (list, tuple)):
        return [_without_places(item) for item in value]
    return value


def _datasets(config: Config) -> Iterator[Any]:
    """The innermost data sets of all loaders."""
    for loader in LOADERS:
        if config.get(loader):
            yield from _innermost(config[loader].dataset)


def _innermost(dataset: Any) -> Iterator[Any]:
    if 'dataset' in dataset:
        yield from _innermost(dataset['dataset'])
    elif 'datasets' in dataset:
        for one in dataset['datasets']:
            yield from _innermost(one)
    else:
        yield dataset


def _steps(dataset: Any) -> Iterator[Mapping[str, Any]]:
    """All transforms of a data set, those of its wrappers last."""
    for one in _innermost(dataset):
        yield from one.get('pipeline') or ()
    if 'dataset' in dataset or 'datasets' in dataset:
        yield from dataset.get('pipeline') or ()


def _check_images(entry: Entry) -> None:
    for loader in LOADERS[:2]:
        what = loader.removesuffix('_dataloader')
        for dataset in _innermost(entry.config[loader].dataset):
            root = Path(dataset.get('data_root') or '')
            for prefix in (dataset.get('data_prefix') or {}).values():
                folder = root / (prefix or '')
                if not folder.is_dir() or not any(folder.iterdir()):
                    raise FileNotFoundError(
                        f'config {entry.name}: the {what} set is not there: nothing in {folder} '
                        '(--data DIR names the folder of the data set)'
                    )


def _check_together(entries: Sequence[Entry]) -> None:
    known: dict[str, Entry] = {}
    for entry in entries:
        other = known.setdefault(entry.key, entry)
        if other is entry:
            continue
        if other.digest == entry.digest:
            raise ValueError(f'config {entry.key} is named twice')
        raise ValueError(
            f'two configs have the name {entry.key}: {other.config.filename} and '
            f'{entry.config.filename}; rename one'
        )
    for entry in entries[1:]:
        theirs, ours = test_set_of(entry.config), test_set_of(entries[0].config)
        if theirs != ours:
            raise ValueError(
                f'a league has one test set: config {entry.name} tests on {theirs}, '
                f'{entries[0].name} on {ours}'
            )
