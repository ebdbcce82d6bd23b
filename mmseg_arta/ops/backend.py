"""Which implementation of an op runs: one choice for the whole process.

``MMSEG_ARTA_OPS`` forces a back end; without it the best one that is available
for the device is taken.
"""

from __future__ import annotations

import os

#: Environment variable that forces a back end.
ENV = 'MMSEG_ARTA_OPS'

BACKENDS = ('reference',)


def available_backends() -> dict[str, str]:
    """Every back end's name, with '' if it can be used or the reason why it cannot."""
    return {'reference': ''}


def forced_backend() -> str | None:
    """The back end named by ``MMSEG_ARTA_OPS``, or None.

    Raises:
        RuntimeError: if the variable names no back end, or one that cannot be used.
    """
    name = os.environ.get(ENV, '').strip()
    if not name:
        return None
    reasons = available_backends()
    if name not in reasons:
        raise RuntimeError(f'{ENV}={name!r}: expected one of {", ".join(reasons)}')
    if reasons[name]:
        raise RuntimeError(f'{ENV}={name!r}: this back end cannot be used: {reasons[name]}')
    return name
