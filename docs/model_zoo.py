"""Write ``docs/model_zoo.md`` from the metafiles and ``docs/fidelity.json``.

python docs/model_zoo.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs' / 'model_zoo.md'
HEAD = """# Model zoo

Every bundled config but the ablations, which are on the pages of the families, and the stock
models for CamVid.
`python docs/model_zoo.py` writes this page from `configs/*/metafile.yml` and `docs/fidelity.json`.

*Parameters* and *GMACs*, billions of multiply-accumulates of one image, are counted here from the
config, in the way of the papers ([Fidelity](fidelity.md)): under the caps of training for models
that allocate tokens by scores, at the image size next to it. *Published mIoU* is what the authors
print, single scale; nobody has trained these models here, but for the small ones of CamVid, whose
figures are [on a page of their own](camvid.md). An empty cell says that nothing was counted, or
published.

    python -m mmseg_arta.configs NAME --out my_config.py
"""


def families() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Folder and metafile of every family, in the order of ``model-index.yml``."""
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text(encoding='utf-8'))
    for name in index['Import']:
        yield Path(name).parent.name, yaml.safe_load((ROOT / name).read_text(encoding='utf-8'))


def counted(measurements: Mapping[str, Any], config: str) -> tuple[str, str, str]:
    """Parameters in millions, GMACs as the papers count, and image size, as text."""
    found = {}
    for key, value in measurements.items():
        name, size, allocation = key.split(' ')
        if name == config:
            found[allocation] = (size, value)
    for allocation in ('model', 'caps', 'full'):
        if allocation in found:
            size, value = found[allocation]
            return f'{value["params"] / 1e6:.2f}', f'{value["macs_published"] / 1e9:.1f}', size
    return '', '', ''


def render() -> str:
    """The whole page."""
    measurements = json.loads((ROOT / 'docs' / 'fidelity.json').read_text(encoding='utf-8'))
    parts = [HEAD]
    for folder, metafile in families():
        models = [m for m in metafile['Models'] if '/ablations/' not in m['Config']]
        (collection,) = metafile['Collections']
        parts.append(f'## [{collection["Name"]}](../configs/{folder}/README.md)\n')
        parts.append('| config | data | parameters, M | GMACs | image | published mIoU |')
        parts.append('| --- | --- | ---: | ---: | --- | ---: |')
        for model in models:
            params, macs, size = counted(measurements, model['Name'])
            miou = model['Metadata'].get('Published mIoU', '')
            data = model['Results']['Dataset']
            cells = (f'`{model["Name"]}`', data, params, macs, size, str(miou))
            parts.append('| ' + ' | '.join(cells) + ' |')
        parts.append('')
    return '\n'.join(parts).rstrip('\n') + '\n'


if __name__ == '__main__':
    PAGE.write_text(render(), encoding='utf-8')
