"""Multi-scale deformable attention on irregular tokens (AFF 4.1)."""

from __future__ import annotations

from torch import Tensor

from ...structures.contents import readable
from .. import checks
from ..backend import chosen_backend, converted, number_types, register_op
from . import kernels, reference

register_op('point_deform_attention', kernels.FORWARD)


def point_deform_attention(
    value: Tensor,
    centers: Tensor,
    nearest: Tensor,
    batch: Tensor,
    location: Tensor,
    weight: Tensor,
    power: Tensor,
    floor: float = 0.01,
    eps: float = 1e-6,
) -> Tensor:
    """Weighted sum of features sampled at given places of several token levels.

    A sample is interpolated from the 4 (in general ``k``) tokens of its level nearest to the
    cell it falls in, by :func:`~mmseg_arta.ops.inverse_distance_weights` of the exact place.
    Places outside the canvas use the nearest cell's tokens.

    Args:
        value: ``(V, H, d)`` values of all levels laid end to end.
        centers: ``(V, 2)`` their centres ``(x, y)`` in units of 4 px.
        nearest: ``(L, B, rows, columns, k)`` int64 rows of ``value`` nearest to every 4 px
            cell; -1 where an image has fewer tokens.
        batch: ``(Q,)`` int64 image of every query.
        location: ``(Q, H, L, P, 2)`` places ``(x, y)`` to sample, units of 4 px.
        weight: ``(Q, H, L, P)`` attention weights.
        power: ``(1,)`` power of the squared distance.
        floor, eps: see :func:`~mmseg_arta.ops.inverse_distance_weights`.

    Returns:
        ``(Q, H, d)`` in the number type of ``value``; computed in float32 or better.

    Raises:
        ValueError: if shapes, number types or devices do not fit together.
        IndexError: if an index lies outside its array.
    """
    numbers = dict(value=value, centers=centers, location=location, weight=weight, power=power)
    checks.floating(**numbers)
    checks.int64(nearest=nearest, batch=batch)
    checks.same_device(**numbers, nearest=nearest, batch=batch)
    if weight.ndim != 4:
        raise ValueError(f'weight must be (Q, H, L, P), found {tuple(weight.shape)}')
    queries, heads, levels, points = weight.shape
    if tuple(location.shape) != (queries, heads, levels, points, 2):
        raise ValueError(
            f'location must be {(queries, heads, levels, points, 2)} for weight '
            f'{tuple(weight.shape)}, found {tuple(location.shape)}'
        )
    if nearest.ndim != 5 or nearest.shape[0] != levels:
        raise ValueError(
            f'nearest must be ({levels}, B, rows, columns, k) for weight '
            f'{tuple(weight.shape)}, found {tuple(nearest.shape)}'
        )
    if tuple(batch.shape) != (queries,):
        raise ValueError(
            f'batch must be ({queries},) for weight {tuple(weight.shape)}, '
            f'found {tuple(batch.shape)}'
        )
    if power.numel() != 1:
        raise ValueError(f'power must hold one number, found {tuple(power.shape)}')
    if value.ndim != 3 or value.shape[1] != heads or tuple(centers.shape) != (value.shape[0], 2):
        raise ValueError(
            f'value must be (V, {heads}, d) and centers (V, 2), found {tuple(value.shape)} '
            f'and {tuple(centers.shape)}'
        )
    checks.bounds(floor, eps)
    unsupported = (('cuda', kernels.unsupported_on_cuda(value)),)
    chosen = chosen_backend('point_deform_attention', value, unsupported)
    real, wide = number_types(chosen, value.dtype)
    # Places need more digits than half precision has.
    centers, location, weight, power = converted(wide, centers, location, weight, power.reshape(1))
    features = converted(real, value)[0]
    tensors = (features, centers, nearest, batch, location, weight, power)
    inputs = (*tensors, float(floor), float(eps))
    if chosen == 'reference':
        if readable(nearest):
            kernels.check(*inputs)
            kernels.contents(*inputs)
        out = reference.point_deform_attention(*inputs)
    else:
        out = kernels.forward(*inputs, chosen)
    return converted(value.dtype, out)[0]
