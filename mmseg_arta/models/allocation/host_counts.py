"""What the host has to learn in an allocation round: how many tokens were chosen."""

from __future__ import annotations

import torch
from torch import Tensor

from ...structures.contents import readable
from .bound import tell_of_bound


def counts_on_host(
    counts: Tensor,
    bounded: tuple[Tensor, int] | None = None,
    known: tuple[int, ...] | None = None,
) -> tuple[int, ...]:
    """Token counts ``(K,)`` as Python integers: the one host synchronisation of a round.

    Counts that are known beforehand are not read, unless a bound may cut them. In a compiled graph
    they are symbols that stand for all counts. ``tolist`` would give such symbols only with
    ``fullgraph=True`` and split the graph otherwise.

    Args:
        counts: how many tokens were chosen.
        bounded: ``(B,)`` tokens that images would have without a bound, and the bound. They are
            read together with the counts, to warn if there are more.
        known: what the policy says that the counts are, if it does.

    Raises:
        ValueError: on the CPU, if a policy was wrong about its counts.
    """
    if known is not None and bounded is None:
        if readable(counts) and tuple(counts.tolist()) != known:
            raise ValueError(
                f'host_counts of the allocation policy said {known}, the number of candidates '
                f'selected per image; found {tuple(counts.tolist())}'
            )
        return known
    if not torch.compiler.is_compiling():
        if bounded is None:
            return tuple(counts.tolist())
        return tuple(_read(counts, *bounded))
    rows = _counted(counts) if bounded is None else _counted_bounded(counts, *bounded)
    return tuple(of_one.shape[0] for of_one in rows)


def _read(counts: Tensor, totals: Tensor, most: int) -> list[int]:
    numbers = torch.cat((counts, totals)).tolist()
    tell_of_bound(numbers[len(counts) :], most)
    return numbers[: len(counts)]


@torch.library.custom_op(
    'mmseg_arta::counted_rows', mutates_args=(), schema='(Tensor counts) -> Tensor[]'
)
def _counted(counts):
    """For each count a tensor of so many rows and no columns, which takes no memory."""
    return [counts.new_empty((count, 0)) for count in counts.tolist()]


@torch.library.custom_op(
    'mmseg_arta::counted_rows_bounded',
    mutates_args=(),
    schema='(Tensor counts, Tensor totals, int most) -> Tensor[]',
)
def _counted_bounded(counts, totals, most):
    """As ``counted_rows``, and a warning if one of ``totals`` is beyond ``most``."""
    return [counts.new_empty((count, 0)) for count in _read(counts, totals, most)]


def _rows_of_any_count(counts, *bound):
    # The sizes that torch.library.get_ctx() hands out are refused, and the graph split, unless
    # the whole program is compiled with fullgraph=True. The model can do with unknown sizes.
    shape_env = counts.fake_mode.shape_env
    sizes = [shape_env.create_unbacked_symint() for _ in range(counts.shape[0])]
    for size in sizes:
        torch._check(size >= 0)
    return [counts.new_empty((size, 0)) for size in sizes]


_counted.register_fake(_rows_of_any_count)
_counted_bounded.register_fake(_rows_of_any_count)
