"""Sizes of AutoFocusFormer, and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class AFFArch:
    """Shape of an AutoFocusFormer (AFF table 1).

    Attributes:
        dims: channels of the four stages, fine to coarse.
        depths: blocks of the stages.
        num_heads: attention heads of the stages.
        mlp_ratio: hidden over input channels of all feed-forward networks.
        layer_scale_init: initial layer scale, 0 for none.
        cluster_size: tokens per cluster.
    """

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    mlp_ratio: float = 3.0
    layer_scale_init: float = 0.0
    cluster_size: int = 8

    def __post_init__(self) -> None:
        for name in ('dims', 'depths', 'num_heads'):
            values = getattr(self, name)
            if len(values) != 4 or any(int(v) != v or v < 1 for v in values):
                raise ValueError(
                    f'arch: {name} must hold 4 positive integers, found {list(values)}'
                )
            object.__setattr__(self, name, tuple(int(v) for v in values))
        for dim, heads in zip(self.dims, self.num_heads, strict=True):
            if dim % heads:
                raise ValueError(
                    f'arch: dims must be divisible by num_heads, found {dim} channels '
                    f'and {heads} heads'
                )
        if self.cluster_size < 1:
            raise ValueError(f'arch: cluster_size must be at least 1, found {self.cluster_size}')


def resolve_aff_arch(arch: str | Mapping[str, Any]) -> AFFArch:
    """An arch from its name or from a dict with the fields of :class:`AFFArch`.

    Raises:
        ValueError: for an unknown name, an unknown or missing field, or bad values.
    """
    if isinstance(arch, str):
        if arch not in AFF_ARCHS:
            raise ValueError(
                f'arch={arch!r} is unknown: expected one of {sorted(AFF_ARCHS)} or a dict'
            )
        return AFF_ARCHS[arch]
    known = [f.name for f in fields(AFFArch)]
    unknown = sorted(set(arch) - set(known))
    if unknown:
        raise ValueError(f'arch: unknown fields {unknown}, expected some of {known}')
    missing = [name for name in known[:3] if name not in arch]
    if missing:
        raise ValueError(f'arch: missing fields {missing}')
    return AFFArch(**arch)


AFF_ARCHS = {
    'mini': AFFArch((32, 128, 256, 384), (2, 2, 6, 2), (2, 4, 8, 16), 2.0),
    'tiny': AFFArch((64, 128, 256, 512), (3, 4, 18, 5), (2, 4, 8, 16)),
    'small': AFFArch((96, 192, 384, 768), (3, 4, 18, 2), (3, 6, 12, 24), layer_scale_init=1e-5),
    'base': AFFArch((128, 256, 512, 1024), (3, 4, 18, 2), (4, 8, 16, 32), layer_scale_init=1e-5),
}
