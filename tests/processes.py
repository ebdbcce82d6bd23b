"""What tests start Python processes with."""

from __future__ import annotations

import os

from .pages import ROOT


def python_environment() -> dict[str, str]:
    """The variables of this process, with this source tree before what it already imports from."""
    before = os.environ.get('PYTHONPATH')
    path = os.pathsep.join([str(ROOT), before] if before else [str(ROOT)])
    return {**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'}
