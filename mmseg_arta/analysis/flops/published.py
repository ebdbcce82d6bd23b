"""What the published code executes and ours does not, and the other way round.

The papers count what fvcore sees of their code: matrix products, convolutions, norms and resizing
of the whole forward pass at inference, down to the class scores at full resolution; their own
kernels are invisible. Our models give the same results in fewer operations. Here stands, module by
module, what has to be added to or taken from an fvcore count of ours to get theirs:

- cluster attention: a linear layer from 5 numbers to the heads is applied to a table of all
  1023 x 1023 relative positions, in every block; ours is inside the kernel, for occurring pairs.
  Where every token attends to all, as in the last stage of AFF at 224 px, theirs are plain matrix
  products instead of a kernel;
- PointConv and AFF's merging: the weight network, Linear(5 -> 4) and LayerNorm, likewise runs on
  the whole table;
- mask logits: every prediction multiplies the queries with dense mask features at a quarter of
  the resolution; ours multiplies with tokens, which decoders mark (see
  :func:`~mmseg_arta.structures.mask_step`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...models.layers import ClusterAttention, PointConv
from ...ops import uses_reference
from ...structures import FINEST_PATCH, MixedTokens
from .counter import Caller

# Rows of the published segmentation code's table of relative positions, which reach from -511 to
# 511 in both directions whatever the image.
_TABLE_ROWS = 1023**2


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module.

    Attributes:
        module: the module.
        args: its positional arguments.
        result: what it returned.
        table_rows: rows of the published code's table of relative positions.
    """

    module: Any
    args: tuple[Any, ...]
    result: Any
    table_rows: int = _TABLE_ROWS


def _nothing(call: ModuleCall) -> int:
    return 0


@dataclass(frozen=True)
class ModuleRule:
    """How one call of a module differs in cost from the operators that are seen inside.

    Attributes:
        published: multiply-accumulates that the published code executes in addition.
        replaces: submodules whose operators the published code does not execute; '' for the
            module's own, outside of its submodules.
        kernels: multiply-accumulates of kernels that are not seen as operators.
    """

    published: Callable[[ModuleCall], int] = _nothing
    replaces: tuple[str, ...] = ()
    kernels: Callable[[ModuleCall], int] = _nothing


def table_rows(model: nn.Module, shape: tuple[int, int] | None) -> int:
    """Rows of the position table: in classifiers, the published one is as large as the image."""
    if shape is None or hasattr(model, 'decode_head'):
        return _TABLE_ROWS
    rows, cols = (2 * -(-side // FINEST_PATCH) - 1 for side in shape)
    return rows * cols


def _attention(call: ModuleCall) -> int:
    """The bias table; and of global attention the two products of all tokens with all."""
    x, neighborhood = call.args[:2]
    reach = neighborhood.neighbors.shape[1] * neighborhood.cluster_size
    pairs = sum(n * n for n in neighborhood.lengths if n <= reach)
    bias = call.table_rows * call.module.pos_embed.weight.numel()
    return bias + 2 * pairs * x.shape[1]


def _weight_table(call: ModuleCall) -> int:
    linear, norm = call.module.weight_net[0], call.module.weight_net[1]
    return call.table_rows * (linear.weight.numel() + 5 * norm.weight.numel())


def _unseen_attention(call: ModuleCall) -> int:
    """The reference computes attention elementwise; the kernels register a formula."""
    x, neighborhood = call.args[:2]
    if not uses_reference('cluster_attention', x):
        return 0
    neighbors = neighborhood.neighbors.shape[1] * neighborhood.cluster_size
    # Logits and weighted sum of all and the blank token, over all channels. The formula has a bias
    # of 5 products for every head and pair; that of the neighbours is seen, as a linear layer.
    return x.shape[0] * (2 * x.shape[1] * (neighbors + 1) + 5 * call.module.num_heads)


RULES: dict[type, ModuleRule] = {
    ClusterAttention: ModuleRule(published=_attention, replaces=('',), kernels=_unseen_attention),
    PointConv: ModuleRule(published=_weight_table, replaces=('weight_net',)),
}


def rule_of(module: nn.Module) -> ModuleRule | None:
    """The rule for a module's class or the nearest of its bases that has one."""
    return next((RULES[kind] for kind in type(module).__mro__ if kind in RULES), None)


class ModuleWatch:
    """Gathers, by hooks on modules, what single operators do not tell of a forward pass.

    Args:
        table_rows: rows of the published code's table of relative positions.

    Attributes:
        published: multiply-accumulates that the published code executes in addition, by the
            dotted name of the module in whose place it does.
        kernels: multiply-accumulates of kernels that are not seen as operators, likewise.
        tokens: tokens by patch size that the backbone handed out.
    """

    def __init__(self, table_rows: int) -> None:
        self._table_rows = table_rows
        self.published: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()
        self.tokens: dict[int, int] = {}
        self._replaced: set[str] = set()
        self._prefixes: tuple[str, ...] = ()

    def replaces(self, caller: Caller) -> bool:
        """Whether the published code does something else in the place of this call."""
        return caller.path in self._replaced or f'{caller.path}.'.startswith(self._prefixes)

    @contextmanager
    def on(self, model: nn.Module) -> Generator[None]:
        """Within this context the hooks are in place."""
        handles, prefixes = [], []
        try:
            for path, module in model.named_modules():
                rule = rule_of(module)
                for name in () if rule is None else rule.replaces:
                    if name:
                        prefixes.append(f'{path}.{name}.'.lstrip('.'))
                    else:
                        self._replaced.add(path)
                if rule is not None or path in ('', 'backbone'):
                    handles.append(module.register_forward_hook(self._hook(path, rule)))
            self._prefixes = tuple(prefixes)
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, path: str, rule: ModuleRule | None) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
            if rule is not None:
                call = ModuleCall(module, args, result, self._table_rows)
                self.published[path] += rule.published(call)
                self.kernels[path] += rule.kernels(call)
            if path in ('', 'backbone') and isinstance(result, MixedTokens):
                for level in result.levels:
                    size = level.patch_size
                    self.tokens[size] = self.tokens.get(size, 0) + len(level)

        return hook
