"""Sizes of LRFormer, and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

_STAGES = 4


@dataclass(frozen=True)
class LRFormerArch:
    """Shape of an LRFormer encoder (LRFormer table 2).

    Attributes:
        dims: channels of the four stages.
        depths: blocks of the four stages.
        num_heads: attention heads of the four stages.
        mlp_ratios: hidden over input channels of the feed-forward networks.
        layer_scale_init: initial layer scales, 0 for none.
        pre_norm_blocks: blocks of the third stage with batch normalisation of their input,
            counted from 0.
    """

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...] = (2, 4, 10, 16)
    mlp_ratios: tuple[float, ...] = (8, 8, 4, 4)
    layer_scale_init: tuple[float, ...] = (0, 0, 1e-6, 1e-6)
    pre_norm_blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            values = tuple(getattr(self, field.name))
            object.__setattr__(self, field.name, values)
            if field.name == 'pre_norm_blocks':
                continue
            least = 0 if field.name == 'layer_scale_init' else 1
            if len(values) != _STAGES or any(value < least for value in values):
                raise ValueError(
                    f'arch: {field.name} must hold {_STAGES} numbers of at least {least}, '
                    f'found {list(values)}'
                )
        if self.dims[0] % 2:
            raise ValueError(f'arch: the first of dims must be even, found {self.dims[0]}')
        for dim, heads in zip(self.dims, self.num_heads, strict=True):
            if dim % heads:
                raise ValueError(
                    f'arch: dims must be divisible by num_heads, found {dim} channels '
                    f'and {heads} heads'
                )
        for block in self.pre_norm_blocks:
            if not 0 <= block < self.depths[2]:
                raise ValueError(
                    f'arch: pre_norm_blocks must name blocks of the third stage, 0 to '
                    f'{self.depths[2] - 1}, found {block}'
                )


LRFORMER_ARCHS = {
    'tiny': LRFormerArch((48, 96, 240, 384), (2, 2, 6, 3)),
    'small': LRFormerArch((64, 128, 320, 512), (3, 3, 12, 3)),
    'base': LRFormerArch((80, 160, 400, 512), (4, 4, 15, 8)),
    'large': LRFormerArch((96, 192, 480, 640), (4, 6, 18, 8)),
    'xlarge': LRFormerArch((128, 256, 640, 768), (4, 8, 22, 8), pre_norm_blocks=(7, 15)),
}
_SHORT_NAMES = dict(t='tiny', s='small', b='base', l='large', xl='xlarge')


def resolve_lrformer_arch(arch: str | Mapping[str, Any]) -> LRFormerArch:
    """An arch from its name or from a dict with the fields of :class:`LRFormerArch`.

    Raises:
        ValueError: for an unknown name, an unknown or missing field, or bad values.
    """
    if isinstance(arch, str):
        arch = _SHORT_NAMES.get(arch, arch)
        if arch not in LRFORMER_ARCHS:
            raise ValueError(
                f'arch={arch!r} is unknown: expected one of {list(LRFORMER_ARCHS)} or a dict'
            )
        return LRFORMER_ARCHS[arch]
    known = [field.name for field in fields(LRFormerArch)]
    unknown = sorted(set(arch) - set(known))
    if unknown:
        raise ValueError(f'arch: unknown fields {unknown}, expected some of {known}')
    missing = [name for name in known[:2] if name not in arch]
    if missing:
        raise ValueError(f'arch: missing fields {missing}')
    return LRFormerArch(**arch)
