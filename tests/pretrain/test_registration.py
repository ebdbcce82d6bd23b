"""Backbones in mmpretrain's registry, with a stand-in where mmpretrain is not installed."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from mmengine.registry import Registry

from mmseg_arta.models import LRFormer
from mmseg_arta.pretrain import BACKBONES, register_backbones


@pytest.fixture
def models(monkeypatch):
    """Registry of a module named as mmpretrain's."""
    package, module = ModuleType('mmpretrain'), ModuleType('mmpretrain.registry')
    package.__path__ = []
    module.MODELS = Registry('model', scope='mmseg')
    monkeypatch.setitem(sys.modules, 'mmpretrain', package)
    monkeypatch.setitem(sys.modules, 'mmpretrain.registry', module)
    return module.MODELS


def hide(monkeypatch, hidden):
    """Make a module look as if it were not installed."""

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == hidden:
                raise ModuleNotFoundError('hidden', name=name)

    for name in [name for name in sys.modules if name.startswith(hidden)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, 'meta_path', [Finder, *sys.meta_path])


def test_backbones_are_registered(models):
    assert register_backbones() and register_backbones()
    assert all(models.get(backbone.__name__) is backbone for backbone in BACKBONES)
    arch = dict(dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
    config = dict(type='LRFormer', arch=arch, pooled_size=7, out_indices=(3,))
    assert isinstance(models.build(config), LRFormer)


def test_mmpretrain_is_optional(monkeypatch):
    hide(monkeypatch, 'mmpretrain')
    assert not register_backbones()


def test_a_broken_mmpretrain_says_so(models, monkeypatch):
    hide(monkeypatch, 'mmpretrain.registry')
    with pytest.raises(ModuleNotFoundError, match='hidden'):
        register_backbones()
