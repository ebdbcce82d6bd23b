"""What a count results in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Operations per multiply-accumulate.
FLOPS_PER_MAC = 2


@dataclass(frozen=True)
class ComponentCount:
    """Cost of a part of a model, the parts it is divided into included.

    Attributes:
        params: parameters.
        macs: multiply-accumulates as executed.
        macs_published: multiply-accumulates as the papers count them.
        parts: what it is divided into, if it is.
    """

    params: int = 0
    macs: int = 0
    macs_published: int = 0
    parts: Mapping[str, ComponentCount] = field(default_factory=dict)

    @property
    def flops(self) -> int:
        """Floating-point operations as executed."""
        return FLOPS_PER_MAC * self.macs

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        result: dict[str, Any] = dict(
            params=self.params,
            macs=self.macs,
            flops=self.flops,
            macs_published=self.macs_published,
        )
        if self.parts:
            result['parts'] = {name: part.to_dict() for name, part in self.parts.items()}
        return result


def sum_of(counts: Iterable[ComponentCount], parts: Mapping[str, ComponentCount]) -> ComponentCount:
    """The sum of some counts, divided into ``parts``."""
    every = list(counts)
    return ComponentCount(
        sum(count.params for count in every),
        sum(count.macs for count in every),
        sum(count.macs_published for count in every),
        parts,
    )


@dataclass(frozen=True)
class MaskStep:
    """Cost of multiplying queries with mask features.

    Attributes:
        executed: multiply-accumulates as executed.
        dense: multiply-accumulates of the dense matrix products that give the same.
    """

    executed: int
    dense: int


@dataclass(frozen=True)
class OperationCount:
    """Cost of one forward pass at inference, batch size 1.

    Attributes:
        shape: ``(height, width)`` of the image in pixels; None for averages of images that differ.
        allocation: 'full', 'caps' or 'model', see
            :func:`~mmseg_arta.analysis.flops.count.forced_allocation`.
        mode: 'whole' or 'slide'.
        components: cost by component, in running order.
        tokens: tokens by patch size in pixels; empty for models without.
        mask_step: of decoders that have it.
        uncounted: calls of custom operators without a formula, by name.
    """

    shape: tuple[int, int] | None
    allocation: str
    mode: str
    components: Mapping[str, ComponentCount]
    tokens: Mapping[int, int] = field(default_factory=dict)
    mask_step: MaskStep | None = None
    uncounted: Mapping[str, int] = field(default_factory=dict)

    @property
    def params(self) -> int:
        """Parameters of the whole model."""
        return sum(component.params for component in self.components.values())

    @property
    def macs(self) -> int:
        """Multiply-accumulates as executed."""
        return sum(component.macs for component in self.components.values())

    @property
    def flops(self) -> int:
        """Floating-point operations as executed."""
        return FLOPS_PER_MAC * self.macs

    @property
    def macs_published(self) -> int:
        """Multiply-accumulates as the papers count them."""
        return sum(component.macs_published for component in self.components.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        result: dict[str, Any] = dict(
            shape=None if self.shape is None else list(self.shape),
            allocation=self.allocation,
            mode=self.mode,
            params=self.params,
            macs=self.macs,
            flops=self.flops,
            macs_published=self.macs_published,
            components={name: part.to_dict() for name, part in self.components.items()},
            tokens={str(size): count for size, count in self.tokens.items()},
            uncounted=dict(self.uncounted),
        )
        if self.mask_step is not None:
            result['mask_step'] = dict(
                macs=self.mask_step.executed, macs_dense=self.mask_step.dense
            )
        return result
