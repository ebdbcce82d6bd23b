"""What every config resolves to, as digests by section.

``python tests/configs/resolved.py`` renews ``tests/data/resolved_configs.json`` after a change
that is meant; with the name of a config it prints what that config resolves to, to be compared
with the same of another commit.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
DIGESTS = ROOT / 'tests' / 'data' / 'resolved_configs.json'
CONFIGS = {
    path.stem: path
    for path in sorted((ROOT / 'configs').rglob('*.py'))
    if '_base_' not in path.relative_to(ROOT).parts
}
_DATA = ('dataset_type', 'data_root', 'crop_size', 'img_ratios')
_SCHEDULE = ('optim_wrapper', 'param_scheduler', 'train_cfg', 'val_cfg', 'test_cfg')


def canonical(value: Any) -> Any:
    """A value as JSON can hold it; tuples stay apart from lists."""
    if isinstance(value, dict):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return {'tuple': [canonical(item) for item in value]}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return value


def sections(config: Config) -> dict[str, dict[str, Any]]:
    """The content of a config, sorted into sections."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in canonical(config.to_dict()).items():
        if key == 'model':
            for part, item in value.items():
                own = part in ('backbone', 'decode_head')
                found.setdefault(f'model.{part}' if own else 'model', {})[part] = item
            continue
        if key in _DATA or key.endswith(('_pipeline', '_dataloader', '_evaluator')):
            section = 'data'
        else:
            section = 'schedule' if key in _SCHEDULE else 'other'
        found.setdefault(section, {})[key] = value
    return found


def digests(config: Config) -> dict[str, str]:
    """A digest of each section, over the names of its keys and their values."""
    return {
        name: hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
        for name, content in sorted(sections(config).items())
    }


def load(name: str) -> Config:
    """A config by its name, without importing what it names."""
    return Config.fromfile(CONFIGS[name], import_custom_modules=False)


def main(names: list[str]) -> None:
    """Print the named configs, or renew the file of digests."""
    for name in names:
        print(json.dumps(sections(load(name)), indent=1, sort_keys=True))
    if not names:
        rows = [f'"{name}": {json.dumps(digests(load(name)))}' for name in CONFIGS]
        DIGESTS.write_text('{\n' + ',\n'.join(rows) + '\n}\n')
        print(f'{len(rows)} configs written to {DIGESTS}')


if __name__ == '__main__':
    main(sys.argv[1:])
