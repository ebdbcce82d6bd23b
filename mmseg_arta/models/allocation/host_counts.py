"""What the host has to learn in an allocation round: how many tokens were chosen."""

from __future__ import annotations

import torch
from torch import Tensor


def counts_on_host(counts: Tensor) -> tuple[int, ...]:
    """Token counts ``(K,)`` as Python integers: the one host synchronisation of a round.

    In a compiled graph they are symbols that stand for all counts. ``tolist`` would give such
    symbols only with ``fullgraph=True`` and split the graph otherwise.
    """
    if not torch.compiler.is_compiling():
        return tuple(counts.tolist())
    return tuple(rows.shape[0] for rows in _counted(counts))


@torch.library.custom_op(
    'mmseg_arta::counted_rows', mutates_args=(), schema='(Tensor counts) -> Tensor[]'
)
def _counted(counts):
    """For each count a tensor of so many rows and no columns, which takes no memory."""
    return [counts.new_empty((count, 0)) for count in counts.tolist()]


@_counted.register_fake
def _(counts):
    # The sizes that torch.library.get_ctx() hands out are refused, and the graph split, unless
    # the whole program is compiled with fullgraph=True. The model can do with unknown sizes.
    shape_env = counts.fake_mode.shape_env
    sizes = [shape_env.create_unbacked_symint() for _ in range(counts.shape[0])]
    for size in sizes:
        torch._check(size >= 0)
    return [counts.new_empty((size, 0)) for size in sizes]
