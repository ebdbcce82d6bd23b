"""What a row of the fidelity tables states: a model, how to count it, and what was published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
class Family:
    """A chapter of the fidelity report.

    Attributes:
        title: headline.
        rows: in the order of the tables.
        notes: paragraphs below the headline: sources, and what differs and why.
    """

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
