"""Sizes of the mixed-resolution encoders, and how every backbone's sizes are looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from ...option_checks import (
    MOST_CHANNELS,
    MOST_LAYERS,
    MOST_PATCHES,
    MOST_PIXELS,
    MOST_WEIGHT,
    check_each,
    check_number,
    check_ratio,
    check_whole,
    check_wholes,
    fail,
)
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
        check_stages(
            self,
            dims=(MOST_CHANNELS, 4),
            num_heads=(MOST_CHANNELS, 4),
            allocation_depths=(MOST_LAYERS, 3),
            refinement_depths=(MOST_LAYERS, (4, 1)),
        )
        check_ratio('arch', self.dims, mlp_ratio=self.mlp_ratio)
        check_number('arch', 0.0, MOST_WEIGHT, layer_scale_init=self.layer_scale_init)
        for name in ('cluster_size', 'num_neighbor_clusters'):
            check_whole('arch', 1, MOST_CLUSTER_SIZE, **{name: getattr(self, name)})

    @property
    def refines(self) -> bool:
        """Whether there is a refinement stage beyond its round at 4 px."""
        return len(self.refinement_depths) > 1


def check_stages(arch: object, **expected: tuple[int, int | Sequence[int]]) -> None:
    """Fields of an arch hold positive integers, and its heads divide its channels.

    Args:
        arch: dataclass with ``dims`` and ``num_heads``; the fields become tuples.
        expected: by field, the largest value, and how many values there are or may be.

    Raises:
        ValueError: if a field does not.
    """
    for name, (most, counts) in expected.items():
        values = check_wholes('arch', 1, most, counts, **{name: getattr(arch, name)})
        object.__setattr__(arch, name, values)
    dims: tuple[int, ...] = getattr(arch, 'dims')  # noqa: B009 (of any dataclass)
    heads: tuple[int, ...] = getattr(arch, 'num_heads')  # noqa: B009
    for dim, number in zip(dims, heads, strict=True):
        if dim % number:
            raise ValueError(
                f'arch.dims must be divisible by num_heads, found {dim} channels and {number} heads'
            )


def check_image_size(owner: object, img_size: Any, patch_size: int) -> tuple[int, ...]:
    """Height and width in pixels of the images of a model with a position for every patch.

    Args:
        owner: the model.
        img_size: its option, a side or both.
        patch_size: side of a patch.

    Raises:
        ValueError: unless there is a patch at least, and not too many.
    """
    size = check_each(owner, patch_size, MOST_PIXELS, 2, img_size=img_size)
    if (size[0] // patch_size) * (size[1] // patch_size) > MOST_PATCHES:
        raise fail(owner, 'img_size', f'of at most {MOST_PATCHES} patches', img_size)
    return size


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
    if not isinstance(arch, Mapping):
        raise ValueError(f'arch must be one of {sorted(archs)} or a dict, found {arch!r}')
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
