"""What goes into mmpretrain's registries, and what is said where it is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

HIDE = """
import sys

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split('.')[0] in {hidden!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, Finder)
"""


def run(code, hidden=()):
    """Output of Python code in a process to which some modules are not installed."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', HIDE.format(hidden=tuple(hidden)) + code],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    'hidden, named, unnamed',
    [
        (['mmpretrain', 'torchvision'], ['mmpretrain: not found', 'torchvision: not found'], []),
        (['mmpretrain'], ['mmpretrain: not found', 'mmseg_arta[pretrain]'], ['pytorch.org']),
        (['torchvision'], ['torchvision: not found', 'pytorch.org'], []),
    ],
    ids=lambda value: '+'.join(value) if value else '',
)
def test_without_mmpretrain_we_segment_and_say_what_to_install(hidden, named, unnamed):
    if hidden == ['mmpretrain']:
        pytest.importorskip('torchvision')
    code = """
import torch, mmseg_arta.models as models
arch = dict(dims=(16, 16, 16, 16), num_heads=(1, 1, 1, 1), allocation_depths=(1, 1, 1),
            refinement_depths=(1, 1, 1, 1))
assert len(models.ARTA(arch)(torch.zeros(1, 3, 64, 64)).levels) == 4
try:
    import mmseg_arta.pretrain
except ImportError as error:
    print('SAID', error)
"""
    status, output = run(code, hidden)
    assert status == 0, output
    said = output.split('SAID')[1]
    assert all(text in said for text in named)
    assert not any(text in said for text in unnamed)
    assert 'Segmentation needs neither of them' in said


def test_configs_can_be_read_without_mmpretrain():
    code = """
from pathlib import Path
from mmseg_arta.analysis.sweep import Subject
from mmseg_arta.analysis.sweep.plan import missing_need
(path,) = Path('configs/imagenet').glob('arta-tiny_*.py')
print('NEEDS', missing_need(Subject.load(path)))
"""
    status, output = run(code, ['mmpretrain'])
    assert status == 0, output
    assert 'NEEDS it needs mmpretrain, which is not installed' in output


def test_backbones_policies_and_hooks_are_registered():
    pytest.importorskip('mmseg_arta.pretrain', exc_type=ImportError)
    from mmpretrain.registry import HOOKS, MODELS

    from mmseg_arta import models
    from mmseg_arta.pretrain import BACKBONES, register_backbones
    from mmseg_arta.pretrain.registration import HOOKS as OURS
    from mmseg_arta.pretrain.registration import POLICIES

    register_backbones()
    assert all(MODELS.get(part.__name__) is part for part in (*BACKBONES, *POLICIES))
    assert all(HOOKS.get(hook.__name__) is hook for hook in OURS)
    # Segmentation goes on with its own.
    assert models.ARTA is not MODELS.get('ARTA') and issubclass(MODELS.get('ARTA'), models.ARTA)
    from mmseg.registry import MODELS as SEGMENTATION

    assert SEGMENTATION.get('ARTA') is models.ARTA


def test_a_broken_mmpretrain_says_so(monkeypatch):
    pytest.importorskip('mmseg_arta.pretrain', exc_type=ImportError)
    from mmseg_arta._requirements import Finding
    from mmseg_arta.pretrain import registration

    def look(part):
        error = RuntimeError('operator torchvision::nms does not exist')
        return (
            Finding(part, error=error) if part.module == 'torchvision' else Finding(part, '1.3.6')
        )

    monkeypatch.setattr(registration, 'look_at', look)
    with pytest.raises(ImportError, match=r'its import fails \(RuntimeError: operator') as error:
        registration.check_requirements()
    assert isinstance(error.value.__cause__, RuntimeError)
