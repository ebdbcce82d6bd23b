"""What the sweep has to know about a config."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...datasets.toy import LAYOUTS

#: What else than the head tells the models of a family apart, by the backbone's type: dotted keys
#: of the backbone's config.
VARIANTS: dict[str, tuple[str, ...]] = {
    'AutoFocusFormer': ('arch', 'downsample_rate'),
    'StepViT': ('merging.type', 'halting.policy.type'),
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
        """Read a config."""
        return cls(path, Config.fromfile(path))

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
    def head(self) -> str:
        """Type of the decode head, with its kind of pixel decoder if it has one."""
        head = self.config.model.decode_head
        head = head[-1] if isinstance(head, (list, tuple)) else head
        decoder = head.get('pixel_decoder')
        if isinstance(decoder, Mapping):
            decoder = decoder.get('type')
        return f'{head.type} ({decoder})' if decoder else head.type

    def at(self, key: str) -> Any:
        """What the config holds at a dotted key."""
        found: Any = self.config
        for part in key.split('.'):
            found = found[part]
        return found

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
        return (self.family, backbone.type, self.head, self.layout, *variant)

    @cached_property
    def digest(self) -> str:
        """Hash of the resolved content."""
        content = json.dumps(self.config.to_dict(), sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def types(self) -> set[str]:
        """All registered types that the model names."""
        return {str(found['type']) for found in _dicts(self.config.model) if 'type' in found}


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


def _at(config: Mapping[str, Any], key: str) -> Any:
    """What a config holds at a dotted key; None if it or a part of it is not there."""
    found: Any = config
    for part in key.split('.'):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
