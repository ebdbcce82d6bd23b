"""This package's parts in mmpretrain's registries."""

from __future__ import annotations

from .._requirements import Part, look_at
from ..engine.hooks import AllocationProgressHook, IterationSeedHook, SafeCheckpointHook
from ..models import allocation
from ..models.backbones import LRFormer
from .aff import AutoFocusFormer
from .mixed import ARTA, DUPS
from .swin import AFFSwin

#: What mmpretrain can train.
BACKBONES = (ARTA, DUPS, AFFSwin, AutoFocusFormer, LRFormer)
#: Policies that look at no scores, and what is made of them.
POLICIES = (
    allocation.FullAllocation,
    allocation.RandomAllocation,
    allocation.TrainTestAllocation,
)
HOOKS = (AllocationProgressHook, IterationSeedHook, SafeCheckpointHook)

#: What pre-training needs besides what the package needs.
PARTS = (
    Part(
        'torchvision',
        '',
        'install the torchvision made for this PyTorch, from where PyTorch came: see pytorch.org',
    ),
    Part('mmpretrain', '1.2', 'pip install "mmseg_arta[pretrain]"'),
)


def check_requirements() -> None:
    """Raise unless mmpretrain and the torchvision that it needs are here.

    Raises:
        ImportError: with what was found, what is needed, and how it is installed.
    """
    bad = [finding for finding in map(look_at, PARTS) if not finding.ok]
    if not bad:
        return
    # Without torchvision mmpretrain's import fails as well, which says nothing about mmpretrain.
    lines = ['pre-training on images cannot be used with what is installed here:']
    lines += [f'  {one.part.module}: {one.found}; needed: {one.needed}' for one in bad]
    lines.append('To mend it:')
    lines += [f'  {one.part.install}' for one in bad]
    lines.append('Segmentation needs neither of them.')
    broken = [one.error for one in bad if one.error is not None and not one.missing]
    raise ImportError('\n'.join(lines)) from (broken[0] if broken else None)


def register_backbones() -> None:
    """Enter backbones, policies and hooks into mmpretrain's registries.

    Repeating it does nothing.

    Raises:
        ImportError: if mmpretrain or torchvision is missing or broken.
    """
    check_requirements()
    from mmpretrain import registry

    for part in (*BACKBONES, *POLICIES):
        registry.MODELS.register_module(module=part, force=True)
    for hook in HOOKS:
        registry.HOOKS.register_module(module=hook, force=True)
