"""Which config is checked how, and what it needs for that."""

from __future__ import annotations

import hashlib
import importlib
import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import import_modules_from_strings

from ...datasets.toy import LAYOUTS
from ..families import FAMILIES
from ..reduced import build_on_meta

#: By the backbone's type, the dotted keys of its config that tell models apart beside the head.
VARIANTS: dict[str, tuple[str, ...]] = {
    backbone: keys for family in FAMILIES.values() for backbone, keys in family.variants.items()
}


@dataclass(frozen=True)
class Subject:
    """A config file.

    Attributes:
        path: the file.
        config: its content.
    """

    path: Path
    config: Config

    @classmethod
    def load(cls, path: Path) -> Subject:
        """Read a config, and import what it names, unless its codebase is missing here."""
        subject = cls(path, Config.fromfile(path, import_custom_modules=False))
        imports = subject.config.get('custom_imports')
        if imports and missing_codebase(subject.config) is None:
            import_modules_from_strings(**imports)
        return subject

    @property
    def name(self) -> str:
        """Name of the config, unique in the package."""
        return self.path.stem

    @property
    def family(self) -> str:
        """Folder of the config below ``configs``."""
        parts = self.path.parts
        return parts[parts.index('configs') + 1] if 'configs' in parts else parts[-2]

    @property
    def codebase(self) -> str:
        """The codebase that runs it: 'mmseg', or 'mmpretrain' for classifiers."""
        return self.config.get('default_scope', 'mmseg')

    @property
    def head(self) -> str:
        """Type of the decode head, with its kind of pixel decoder if it has one; of the head of
        a classifier.
        """
        head = self.config.model['decode_head' if self.codebase == 'mmseg' else 'head']
        head = head[-1] if isinstance(head, (list, tuple)) else head
        decoder = head.get('pixel_decoder')
        if isinstance(decoder, Mapping):
            decoder = decoder.get('type')
        return f'{head.type} ({decoder})' if decoder else head.type

    def at(self, key: str) -> Any:
        """What the config holds at a dotted key."""
        value: Any = self.config
        for part in key.split('.'):
            value = value[part]
        return value

    def dataset_key(self, loader: str) -> str:
        """Dotted key of a data loader's data set; of the innermost one, if they are wrapped."""
        key = f'{loader}.dataset'
        while 'dataset' in self.at(key):
            key = f'{key}.dataset'
        return key

    @property
    def layout(self) -> str:
        """Toy layout that has the training data's folders.

        Raises:
            ValueError: if no layout has.
        """
        dataset = self.at(self.dataset_key('train_dataloader'))
        if self.codebase == 'mmpretrain':
            # Of all data set classes that take folders of classes or lists of labels.
            return 'imagenet'
        prefix = dataset.get('data_prefix', {})
        wanted = (prefix.get('img_path'), prefix.get('seg_map_path'))
        for name, layout in LAYOUTS.items():
            if layout.folders['train'] == wanted:
                return name
        raise ValueError(
            f'{self.path}: no toy layout has the folders {wanted} of {dataset["type"]}; '
            f'layouts: {", ".join(LAYOUTS)}'
        )

    @property
    def group(self) -> tuple[str, ...]:
        """Configs of one group differ in size or recipe only: one of them runs by ``mim``."""
        backbone = self.config.model.backbone
        variant = [f'{key}={_at(backbone, key)}' for key in VARIANTS.get(backbone.type, ())]
        data = self.layout
        if self.codebase == 'mmpretrain':
            data = self.at(self.dataset_key('train_dataloader')).type
        return (self.family, backbone.type, self.head, data, *variant)

    @cached_property
    def digest(self) -> str:
        """Hash of the resolved content."""
        content = json.dumps(self.config.to_dict(), sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def types(self) -> set[str]:
        """All registered types that the model names."""
        return {str(part['type']) for part in _dicts(self.config.model) if 'type' in part}


def _at(value: Any, key: str) -> Any:
    """What lies at a dotted key; None where nothing does."""
    for part in key.split('.'):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _dicts(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _dicts(item)


#: Modules that stock model types need, and this package does not.
NEEDS = {
    'CCHead': ('mmcv.ops', "mmcv's compiled ops"),
    'PSAHead': ('mmcv.ops', "mmcv's compiled ops"),
    'PointHead': ('mmcv.ops', "mmcv's compiled ops"),
    'Mask2FormerHead': ('mmdet', 'mmdet'),
    'MaskFormerHead': ('mmdet', 'mmdet'),
}


def missing_need(subject: Subject) -> str | None:
    """What the config needs and this environment lacks; None if nothing."""
    for kind in sorted(subject.types()):
        scope, _, name = kind.rpartition('.')
        module, label = NEEDS.get(name, (scope, scope))
        if module and module != 'mmseg' and not _importable(module):
            return f'{kind} needs {label}, which is not installed'
    return missing_codebase(subject.config)


def missing_codebase(config: Config) -> str | None:
    """What a config's codebase lacks here; None if it can be used."""
    scope = config.get('default_scope', 'mmseg')
    if scope != 'mmseg' and not _importable(scope):
        return f'it needs {scope}, which is not installed'
    return None


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


BY_MIM, BY_STEP, NOT = 'mim', 'reduced step', '-'


@dataclass(frozen=True)
class Job:
    """A config and how it is to be checked.

    Attributes:
        name: of the config.
        how: 'mim', 'reduced step', or '-' if it cannot be checked.
        subject: the config; None if it cannot be read.
        skip: why it is not checked.
        error: why it cannot be read.
    """

    name: str
    how: str
    subject: Subject | None = None
    skip: str = ''
    error: str = ''


def make_plan(
    paths: Iterable[Path], size: Callable[[Subject], float] | None = None
) -> tuple[Job, ...]:
    """Jobs in the order of ``paths``: in every group the smallest model runs by ``mim``.

    Args:
        paths: config files.
        size: what makes a model small; the number of parameters by default.
    """
    jobs: dict[Path, Job] = {}
    groups: dict[tuple[str, ...], list[Subject]] = {}
    for path in paths:
        try:
            subject = Subject.load(path)
            reason = missing_need(subject)
            if reason is None:
                jobs[path] = Job(path.stem, BY_STEP, subject)
                groups.setdefault(subject.group, []).append(subject)
            else:
                jobs[path] = Job(path.stem, NOT, subject, skip=reason)
        except Exception:
            jobs[path] = Job(path.stem, NOT, error=traceback.format_exc())
    for members in groups.values():
        chosen = members[0]
        if len(members) > 1:
            chosen = min(members, key=lambda member: _rank(member, size or _parameters))
        jobs[chosen.path] = Job(chosen.name, BY_MIM, chosen)
    return tuple(jobs.values())


def _rank(subject: Subject, size: Callable[[Subject], float]) -> tuple[float, ...]:
    # Ablations lie in folders of their own.
    return len(subject.path.parts), size(subject)


def _parameters(subject: Subject) -> float:
    init_default_scope(subject.config.get('default_scope', 'mmseg'))
    try:
        model_cfg = subject.config.model.to_dict()
        if subject.codebase == 'mmpretrain':
            model_cfg.pop('train_cfg', None)  # building it logs a line
        model = build_on_meta(model_cfg)
    except Exception:
        return float('inf')  # its own step shows what is wrong
    return sum(p.numel() for p in model.parameters())
