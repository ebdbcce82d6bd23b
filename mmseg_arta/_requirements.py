"""What has to be importable before this package can register itself.

Parts are found by importing them, never by distribution name: ``import mmcv`` may come from one of
several distributions, from a source checkout or from a cluster's module system, and all are fine.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass

INSTALL_TORCH = 'pip install "torch>=2.4"'
INSTALL_OPENMMLAB = (
    'pip install "mmseg_arta[openmmlab]" (in a checkout: pip install -r requirements/runtime.txt)'
)


@dataclass(frozen=True)
class Part:
    """A module, the oldest version that will do (empty: any), and the command that installs it."""

    module: str
    minimum: str
    install: str


@dataclass(frozen=True)
class Finding:
    """What importing a :class:`Part` gave.

    ``version`` is ``None`` where nothing was imported; ``error`` is what the import raised.
    """

    part: Part
    version: str | None = None
    error: Exception | None = None

    @property
    def missing(self) -> bool:
        """Whether there is no such module (as opposed to one whose own import fails)."""
        # A module that lacks one of ITS parts raises ModuleNotFoundError too, with another name.
        return isinstance(self.error, ModuleNotFoundError) and self.error.name == self.part.module

    @property
    def found(self) -> str:
        """The version, or a few words on why there is none."""
        if self.version is not None:
            return self.version
        if self.missing:
            return 'not found'
        return f'its import fails ({first_line(self.error)})'

    @property
    def ok(self) -> bool:
        """Whether the part imports and is new enough."""
        return self.version is not None and release(self.version) >= release(self.part.minimum)

    @property
    def needed(self) -> str:
        """The versions that will do, in words."""
        return f'{self.part.minimum} or newer' if self.part.minimum else 'any version'

    @property
    def remedy(self) -> str:
        """The command that mends a part that is not :attr:`ok`."""
        # Two distributions that share an import name overwrite each other's files.
        others = [d for d in providers(self.part.module) if not d.startswith('onedl-')]
        if others and self.part.install == INSTALL_OPENMMLAB:
            return f'pip uninstall -y {" ".join(others)}; {self.part.install}'
        return self.part.install


PARTS = (
    Part('torch', '2.4', INSTALL_TORCH),
    Part('mmengine', '0.10', INSTALL_OPENMMLAB),
    Part('mmcv', '2.0', INSTALL_OPENMMLAB),
    Part('mmseg', '1.2', INSTALL_OPENMMLAB),
)


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``'2.4.0a0+git12'`` gives ``(2, 4, 0)``.

    Pre-releases count as the release they lead to: vendors ship such builds of PyTorch.
    """
    match = re.match(r'\d+(\.\d+)*', version)
    return tuple(int(number) for number in match.group().split('.')) if match else ()


def first_line(error: BaseException | None) -> str:
    """An exception as ``Type: first line of its text``, for a table or a list."""
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__


def providers(module: str) -> list[str]:
    """Names of the installed distributions that bring ``module`` (none for a bare checkout)."""
    return sorted(set(importlib.metadata.packages_distributions().get(module, ())))


def look_at(part: Part) -> Finding:
    """Import a part and say what was found; never raises."""
    try:
        module = importlib.import_module(part.module)
    except Exception as error:
        return Finding(part, error=error)
    version = getattr(module, '__version__', None)
    if version is None:
        owners = providers(part.module)
        version = importlib.metadata.version(owners[0]) if owners else 'unknown'
    return Finding(part, version=str(version))


def check(parts: Sequence[Part] = PARTS) -> None:
    """Raise one :class:`ImportError` that names every part that is missing, too old or broken.

    Raises:
        ImportError: with what was found, what is needed and the command that installs it; where a
            part is there but cannot be imported, that part's own error is the cause.
    """
    findings = [look_at(part) for part in parts]
    bad = [finding for finding in findings if not finding.ok]
    if not bad:
        return
    lines = ['mmseg_arta cannot be used with what is installed here:']
    for finding in bad:
        lines.append(f'  {finding.part.module}: {finding.found}; needed: {finding.needed}')
    lines.append('To mend it:')
    lines += [f'  {remedy}' for remedy in dict.fromkeys(finding.remedy for finding in bad)]
    lines.append('The whole picture: python -m mmseg_arta.doctor')
    broken = [f.error for f in bad if f.error is not None and not f.missing]
    raise ImportError('\n'.join(lines)) from (broken[0] if broken else None)
