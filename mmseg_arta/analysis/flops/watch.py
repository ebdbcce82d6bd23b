"""What single operators do not tell of a forward pass, gathered by hooks on modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ...models.decode_heads.mask2former.transformer_decoder import QueryPredictions
from ...structures import MixedTokens
from .callers import Caller
from .published import ModuleCall, ModuleRule, dense_mask_step, rule_of


class ModuleWatch:
    """Applies the rules of :mod:`mmseg_arta.analysis.flops.published` to a forward pass.

    Args:
        table_rows: rows of the published code's table of relative positions.

    Attributes:
        published: multiply-accumulates that the published code executes in addition, by the
            dotted name of the module in whose place it does.
        kernels: multiply-accumulates of kernels that are not seen as operators, likewise.
        dense_mask_step: multiply-accumulates of the dense mask products.
        tokens: tokens by patch size that the backbone handed out.
    """

    def __init__(self, table_rows: int) -> None:
        self._table_rows = table_rows
        self.published: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()
        self.dense_mask_step = 0
        self.tokens: dict[int, int] = {}
        self._replaced: set[str] = set()
        self._prefixes: tuple[str, ...] = ()

    def replaces(self, caller: Caller) -> bool:
        """Whether the published code does something else in the place of this call."""
        return caller.path in self._replaced or f'{caller.path}.'.startswith(self._prefixes)

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[None]:
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
            if isinstance(result, QueryPredictions):
                self.dense_mask_step += dense_mask_step(result)
            if path in ('', 'backbone') and isinstance(result, MixedTokens):
                for level in result.levels:
                    size = level.patch_size
                    self.tokens[size] = self.tokens.get(size, 0) + len(level)

        return hook
