"""Every config says what its model starts from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2] / 'configs'
#: Configs that train on a start, pre-training apart: that starts from nothing by its nature.
CONFIGS = sorted(
    path.relative_to(ROOT)
    for path in ROOT.rglob('*.py')
    if not {'_base_', 'imagenet'} & set(path.relative_to(ROOT).parts)
)
SCRATCH = re.compile(r'random initialisation')


def comment(path: Path) -> str:
    """What a config says about itself, above its first statement."""
    lines = (ROOT / path).read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if not line.startswith('#'))
    return ' '.join(line.lstrip('# ') for line in lines[:first])


def starts(path: Path) -> list[object]:
    """``init_cfg`` of the backbone, and of a policy network inside of it."""
    model = Config.fromfile(ROOT / path).model
    backbone = model.get('backbone')
    # A policy network is trained by a segmentor that is its own backbone.
    parts = [backbone] if backbone is not None else []
    parts += [part['policy_net'] for part in parts if part.get('policy_net')]
    assert parts, f'{path} has no backbone'
    return [part.get('init_cfg') for part in parts]


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_a_start_is_a_file_or_said_to_be_random(path: Path) -> None:
    found = starts(path)
    random = [init_cfg for init_cfg in found if not init_cfg]
    for init_cfg in found:
        if init_cfg:
            assert init_cfg['type'] == 'Pretrained' and init_cfg['checkpoint'].endswith('.pth')
    if random:
        assert SCRATCH.search(comment(path)), (
            f'{path} starts from random weights, and its comment does not say so: '
            'give init_cfg, or write "from random initialisation"'
        )
    else:
        assert not SCRATCH.search(comment(path)), f'{path} starts from {found}'


def test_own_files_are_named_after_the_config_that_makes_them() -> None:
    makers = {path.name.split('_')[0] for path in (ROOT / 'imagenet').rglob('*.py')}
    names = set()
    for path in CONFIGS:
        backbone = Config.fromfile(ROOT / path).model.backbone
        if backbone.type in ('ARTA', 'DUPS', 'AutoFocusFormer', 'AFFSwin', 'LRFormer'):
            checkpoint = (backbone.get('init_cfg') or {}).get('checkpoint')
            if checkpoint is not None:
                names.add(checkpoint)
    assert len(names) > 15
    for name in sorted(names):
        match = re.fullmatch(r'pretrain/(?P<model>[\w-]+)_(in1k|in22k|cifar10)\.pth', name)
        assert match, f'{name} is not pretrain/MODEL_DATA.pth'
        assert match['model'] in makers or f'{match["model"]}-in22k' in makers, (
            f'no config of imagenet/ makes {name}'
        )


@pytest.mark.parametrize('family', ['arta', 'dups'])
def test_models_of_all_tokens_were_pre_trained_with_all(family: str) -> None:
    name = f'{family}-tiny-full_mask2former_4xb8-80k_ade20k-512x512.py'
    backbone = Config.fromfile(ROOT / family / 'ablations' / name).model.backbone
    assert backbone.allocation.type == 'FullAllocation'
    assert backbone.init_cfg.checkpoint == f'pretrain/{family}-tiny-full_in1k.pth'
