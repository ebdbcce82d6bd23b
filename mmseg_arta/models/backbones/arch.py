"""Sizes of the mixed-resolution encoders, and how every backbone's sizes are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from ...structures import MOST_CLUSTER_SIZE

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Arch = TypeVar('_Arch', bound='DataclassInstance')


@dataclass(frozen=True)
class MixedEncoderArch:
    """Shape of an ARTA or DUPS encoder (ARTA table 1, DUPS table 1).

    Attributes:
        dims: channels at 32, 16, 8 and 4 px; both halves of the encoder use them.
        allocation_depths: blocks of the pre-allocation round and of the allocation
            rounds that end before 4 px.
        refinement_depths: blocks of the refinement rounds at 4, 8, 16 and 32 px; one number
            alone leaves all but the round at 4 px out.
        num_heads: attention heads at 32, 16, 8 and 4 px.
        mlp_ratio: hidden over input channels of all feed-forward networks.
        layer_scale_init: initial layer scale, 0 for none.
        cluster_size: tokens per cluster.
        num_neighbor_clusters: clusters that a token attends to.
    """

    dims: tuple[int, ...]
    allocation_depths: tuple[int, ...]
    refinement_depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    mlp_ratio: float = 4.0
    layer_scale_init: float = 0.0
    cluster_size: int = 8
    num_neighbor_clusters: int = 6

    def __post_init__(self) -> None:
        for name, expected in (
            ('dims', (4,)),
            ('num_heads', (4,)),
            ('allocation_depths', (3,)),
            ('refinement_depths', (4, 1)),
        ):
            values = getattr(self, name)
            if len(values) not in expected or any(int(v) != v or v < 1 for v in values):
                raise ValueError(
                    f'arch: {name} must hold {" or ".join(map(str, expected))} positive '
                    f'integers, found {list(values)}'
                )
            object.__setattr__(self, name, tuple(int(v) for v in values))
        for dim, heads in zip(self.dims, self.num_heads, strict=True):
            if dim % heads:
                raise ValueError(
                    f'arch: dims must be divisible by num_heads, found {dim} channels '
                    f'and {heads} heads'
                )
        for name in ('cluster_size', 'num_neighbor_clusters'):
            check_cluster_count(name, getattr(self, name))

    @property
    def refines(self) -> bool:
        """Whether there is a refinement stage beyond its round at 4 px."""
        return len(self.refinement_depths) > 1


def check_cluster_count(name: str, value: int) -> None:
    """An option that counts tokens of a cluster or clusters is one that the ops have room for.

    Raises:
        ValueError: if it is not.
    """
    if not value >= 1:
        raise ValueError(f'arch: {name} must be at least 1, found {value}')
    if value > MOST_CLUSTER_SIZE:
        raise ValueError(f'arch: {name} must be at most {MOST_CLUSTER_SIZE}, found {value}')
    if int(value) != value:
        raise ValueError(f'arch: {name} must be an integer, found {value}')


def check_in_channels(model: str, value: Any) -> int:
    """Channels of a model's images.

    Args:
        model: name of the model, for the error.
        value: its option ``in_channels``.

    Raises:
        ValueError: if it is no positive integer.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f'{model}.in_channels must be a positive integer, found {value!r}')
    return value


def checked_images(model: str, image: Tensor, channels: int, weight: Tensor) -> Tensor:
    """A batch of images that a model takes, in the number type of its weights.

    Preprocessors hand out float32 whatever the model computes in. Under autocast images stay
    what they are.

    Args:
        model: its name, for the error.
        image: ``(B, channels, H, W)`` pixels.
        channels: that the model takes.
        weight: one of its weights.

    Raises:
        ValueError: if the images have other dimensions, or an empty side.
    """
    if image.ndim != 4 or image.shape[1] != channels or 0 in image.shape:
        raise ValueError(
            f'{model} needs images (B, {channels}, H, W) without empty sides (in_channels is '
            f'{channels}), found {tuple(image.shape)}'
        )
    if image.dtype == weight.dtype or not image.is_floating_point():
        return image
    return image if torch.is_autocast_enabled(image.device.type) else image.to(weight.dtype)


def resolve_arch(arch: str | Mapping[str, Any], archs: Mapping[str, _Arch]) -> _Arch:
    """A model's shape from its name or from a dict with the fields of its dataclass.

    Args:
        arch: a key of ``archs``, or the fields' values; those without a default are needed.
        archs: published shapes by name, all of one dataclass.

    Raises:
        ValueError: for an unknown name, an unknown or missing field, or bad values.
    """
    if isinstance(arch, str):
        if arch not in archs:
            raise ValueError(f'arch={arch!r} is unknown: expected one of {sorted(archs)} or a dict')
        return archs[arch]
    kind = type(next(iter(archs.values())))
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(arch) - set(known))
    if unknown:
        raise ValueError(f'arch: unknown fields {unknown}, expected some of {known}')
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    missing = [name for name in needed if name not in arch]
    if missing:
        raise ValueError(f'arch: missing fields {missing}')
    return kind(**arch)


def _arch(
    dims: tuple[int, ...],
    allocation: tuple[int, ...],
    refinement: tuple[int, ...],
    mlp_ratio: float,
    layer_scale_init: float,
) -> MixedEncoderArch:
    # Heads are 32 channels wide in every published size.
    return MixedEncoderArch(
        dims, allocation, refinement, tuple(dim // 32 for dim in dims), mlp_ratio, layer_scale_init
    )


ARTA_ARCHS = {
    'tiny': _arch((512, 256, 128, 64), (1, 1, 1), (4, 4, 16, 4), 3.0, 0.0),
    'small': _arch((512, 256, 128, 64), (2, 2, 2), (4, 6, 24, 3), 4.0, 1e-5),
    'base': _arch((768, 384, 192, 96), (2, 2, 2), (8, 6, 18, 4), 4.0, 1e-5),
}

# The small sizes differ at 4 px. ARTA's is that of the published code.
DUPS_ARCHS = ARTA_ARCHS | {
    'small': _arch((512, 256, 128, 64), (2, 2, 2), (2, 6, 24, 3), 4.0, 1e-5),
}
