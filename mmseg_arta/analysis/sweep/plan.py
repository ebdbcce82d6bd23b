"""Which config is checked how."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mmengine.registry import init_default_scope

from ..reduced import build_on_meta
from .needs import missing_need
from .subject import Subject

BY_MIM, BY_STEP, NOT = 'mim', 'reduced step', '-'


@dataclass(frozen=True)
class Job:
    """A config and how it is to be checked.

    Attributes:
        name: of the config.
        how: 'mim', 'reduced step', or '-' if it cannot be checked.
        subject: the config; None if it cannot be read.
        skip: why it is not checked.
        error: why it cannot be read.
    """

    name: str
    how: str
    subject: Subject | None = None
    skip: str = ''
    error: str = ''


def make_plan(
    paths: Iterable[Path], size: Callable[[Subject], float] | None = None
) -> tuple[Job, ...]:
    """Jobs in the order of ``paths``: in every group the smallest model runs by ``mim``.

    Args:
        paths: config files.
        size: what makes a model small; the number of parameters by default.
    """
    jobs: dict[Path, Job] = {}
    groups: dict[tuple[str, ...], list[Subject]] = {}
    for path in paths:
        try:
            subject = Subject.load(path)
            reason = missing_need(subject)
            if reason is None:
                jobs[path] = Job(path.stem, BY_STEP, subject)
                groups.setdefault(subject.group, []).append(subject)
            else:
                jobs[path] = Job(path.stem, NOT, subject, skip=reason)
        except Exception:
            jobs[path] = Job(path.stem, NOT, error=traceback.format_exc())
    for members in groups.values():
        chosen = members[0]
        if len(members) > 1:
            chosen = min(members, key=lambda member: _rank(member, size or _parameters))
        jobs[chosen.path] = Job(chosen.name, BY_MIM, chosen)
    return tuple(jobs.values())


def _rank(subject: Subject, size: Callable[[Subject], float]) -> tuple[float, ...]:
    # Ablations lie in folders of their own.
    return len(subject.path.parts), size(subject)


def _parameters(subject: Subject) -> float:
    init_default_scope(subject.config.get('default_scope', 'mmseg'))
    try:
        model = build_on_meta(subject.config.model.to_dict())
    except Exception:
        return float('inf')  # its own step shows what is wrong
    return sum(p.numel() for p in model.parameters())
