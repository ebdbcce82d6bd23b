"""The mIoU of a config, as its metafile states it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml


def published_miou(config: Path) -> float | None:
    """mIoU in percent from the ``metafile.yml`` beside a config, single scale; None if none is."""
    for folder in (config.parent, config.parent.parent):
        for path in (folder / 'metafile.yml', folder / 'metafile.yaml'):
            if path.is_file():
                return _miou_of(path, config.stem)
    return None


def _miou_of(path: Path, name: str) -> float | None:
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, yaml.YAMLError):
        return None
    models = content.get('Models', []) if isinstance(content, Mapping) else []
    for model in models:
        if str(model.get('Name')).removesuffix('.py') == name:
            for result in _listed(model.get('Results') or []):
                value = (result.get('Metrics') or {}).get('mIoU')
                if isinstance(value, (int, float)):
                    return float(value)
    return None


def _listed(value: Any) -> Iterable[Mapping[str, Any]]:
    return [value] if isinstance(value, Mapping) else value
