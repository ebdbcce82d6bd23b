"""Local attention of every token to its neighbour clusters (AFF 3.2)."""

from __future__ import annotations

import math

from torch import Tensor

from ...structures import Neighborhood
from ...structures.contents import readable
from .. import checks
from ..backend import chosen_backend, converted, number_types, register_op
from . import kernels, reference

register_op('cluster_attention', kernels.FORWARD)


def cluster_attention(
    q: Tensor,
    kv: Tensor,
    bias_weight: Tensor,
    bias_bias: Tensor,
    blank_k: Tensor,
    blank_v: Tensor,
    neighborhood: Neighborhood,
    blank_clamp: float | None = 5.0,
) -> Tensor:
    """Attention of each token to the members of its nearest clusters and one blank token.

    The logit of a neighbour is ``q . k / sqrt(d)`` plus a learned bias that is linear in
    ``(dx, dy, distance, sin, cos)`` of neighbour minus token, in units of 4 px. The blank
    token's logit is ``q . blank_k / sqrt(d)``, optionally clamped, its value ``blank_v``;
    one softmax runs over all of them.

    Args:
        q: ``(T, H, d)`` queries in cluster order, unscaled.
        kv: ``(T, H, 2, d)`` keys and values in cluster order.
        bias_weight: ``(H, 5)``; ``bias_bias``: ``(H,)``.
        blank_k, blank_v: ``(H, d)`` key and value of the blank token.
        neighborhood: clusters and nearest clusters of the same ``T`` tokens.
        blank_clamp: bound on the blank token's logit, None for no bound.

    Returns:
        ``(T, H, d)`` in cluster order, in the number type of ``q``. Parameters may have another
        one, such as float32 beside features in half precision.

    Raises:
        ValueError: if shapes, number types or devices do not fit together; on the CPU, if the
            neighbourhood's clusters are not consecutive rows.
        IndexError: on the CPU, if a nearest cluster does not exist or a coordinate is beyond 2^30.
    """
    if q.ndim != 3:
        raise ValueError(f'q must be (T, H, d), found {tuple(q.shape)}')
    total, heads, dim = q.shape
    if not dim:
        raise ValueError(f'q must have at least one channel, found {tuple(q.shape)}')
    parameters = dict(
        bias_weight=bias_weight, bias_bias=bias_bias, blank_k=blank_k, blank_v=blank_v
    )
    checks.floating(q=q, kv=kv, **parameters)
    checks.same_device(q=q, kv=kv, **parameters, neighborhood=neighborhood.neighbors)
    shapes = ((heads, 5), (heads,), (heads, dim), (heads, dim))
    for (name, tensor), shape in zip(parameters.items(), shapes, strict=True):
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f'{name} must be {shape} for q {tuple(q.shape)}, found {tuple(tensor.shape)}'
            )
    if tuple(kv.shape) != (total, heads, 2, dim):
        raise ValueError(
            f'kv must be {(total, heads, 2, dim)} for q {tuple(q.shape)}, found {tuple(kv.shape)}'
        )
    if blank_clamp is not None:
        checks.number(blank_clamp=blank_clamp)
    if blank_clamp is not None and not blank_clamp >= 0:
        raise ValueError(f'blank_clamp must be None or at least 0, found {blank_clamp}')
    if neighborhood.neighbors.shape[0] != total:
        raise ValueError(
            f'neighborhood holds {neighborhood.neighbors.shape[0]} tokens, q holds {total}'
        )
    unsupported = (('cuda', kernels.unsupported_on_cuda(q, neighborhood.neighbors.shape[1])),)
    chosen = chosen_backend('cluster_attention', q, unsupported)
    if chosen == 'reference':
        if readable(neighborhood.start):
            neighborhood.check_contents()
        out = reference.cluster_attention(
            q, kv, bias_weight, bias_bias, blank_k, blank_v, neighborhood, blank_clamp
        )
        return out.to(q.dtype)
    real, wide = number_types(chosen, q.dtype)
    out, _ = kernels.forward(
        *converted(real, q, kv),
        *converted(wide, bias_weight, bias_bias, blank_k, blank_v),
        neighborhood.xy,
        neighborhood.start,
        neighborhood.neighbors,
        neighborhood.cluster_size,
        math.inf if blank_clamp is None else float(blank_clamp),
        chosen,
    )
    return converted(q.dtype, out)[0]
