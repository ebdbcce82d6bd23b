"""What a config needs beside this package's requirements."""

from __future__ import annotations

import importlib

from .subject import Subject

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
    scope = subject.config.get('default_scope', 'mmseg')
    if scope != 'mmseg' and not _importable(scope):
        return f'it needs {scope}, which is not installed'
    return None


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True
