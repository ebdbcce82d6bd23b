"""What the analyses have to know of a family of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: From the config of one module, ``type`` included, to that of a smaller one of the same
#: structure. It may change what it is given.
Reducer = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Figures:
    """Published figures of a model; None where there is none.

    Attributes:
        params: parameters in millions.
        gmacs: billions of multiply-accumulates, which the papers call GFLOPs.
    """

    params: float | None = None
    gmacs: float | None = None


@dataclass(frozen=True)
class Row:
    """A model under one allocation at one image size.

    Attributes:
        name: of the variant; rows of one name have the same parameters.
        config: name of the config.
        shape: ``(height, width)`` in pixels.
        allocation: 'full', 'caps' or 'model', as in
            :func:`~mmseg_arta.analysis.flops.count_operations`.
        paper: what the paper prints.
        code: what was measured on the published code.
        components: multiply-accumulates in billions of the published code by component,
            ``'component'`` or ``'component/part'``.
        without: components that the published figures leave out, such as 'post_processing'.
        options: settings of the config to override.
        dry: whether the arithmetic may be left out; False for models whose cost depends on
            what they compute from the image.
    """

    name: str
    config: str
    shape: tuple[int, int] = (512, 512)
    allocation: str = 'model'
    paper: Figures = Figures()
    code: Figures = Figures()
    components: Mapping[str, float] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    dry: bool = True

    @property
    def key(self) -> str:
        """What tells the row apart from all others."""
        height, width = self.shape
        options = ''.join(f' {name}={value}' for name, value in sorted(self.options.items()))
        return f'{self.config} {height}x{width} {self.allocation}{options}'


@dataclass(frozen=True)
class Chapter:
    """A chapter of the fidelity report.

    Attributes:
        number: the chapters' order.
        title: headline.
        rows: in the order of the tables.
        notes: paragraphs below the headline: sources, and what differs and why.
    """

    number: int
    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """A family of models: a module of :mod:`mmseg_arta.analysis.families`.

    Attributes:
        reducers: by registered type, how a module of the family is made small. Drop paths,
            checkpoints and SyncBN are seen to before a reducer is called.
        variants: by a backbone's registered type, dotted keys of the backbone's config that tell
            its models apart as much as their heads do; the sweep trains one model of each kind.
        chapter: what was published of it; None if nothing was.
    """

    reducers: Mapping[str, Reducer] = field(default_factory=dict)
    variants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    chapter: Chapter | None = None
