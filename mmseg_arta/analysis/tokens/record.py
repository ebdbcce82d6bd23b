"""What happened to the tokens of one image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...models.token_reduction import ReducedTokens


@dataclass(frozen=True)
class TokenUse:
    """Tokens of one image, or of one window of it in slide inference.

    Attributes:
        patches: patches of the image before anything merges.
        superpatches: side in patches to the number of tokens of that size.
        halted: tokens that stop at each halting point.
    """

    patches: int
    superpatches: dict[int, int]
    halted: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens after merging."""
        return sum(self.superpatches.values())

    @classmethod
    def of(cls, tokens: ReducedTokens) -> tuple[TokenUse, ...]:
        """Of every image of a batch."""
        layout = tokens.layout
        return tuple(
            cls(
                layout.grid[0] * layout.grid[1],
                dict(zip(layout.group_sizes, layout.counts[number], strict=True)),
                tuple(halt.lengths[number] - halt.kept[number] for halt in tokens.halts),
            )
            for number in range(layout.batch_size)
        )


class TokenWatch:
    """Keeps what a backbone is given and returns.

    Attributes:
        seen: pairs of input images ``(B, 3, H, W)`` and their tokens, in order.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, ReducedTokens]] = []

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[TokenWatch]:
        """Within this context the backbone of a segmentor is watched.

        Raises:
            TypeError: if it returns something else than ``ReducedTokens``.
        """
        handle = model.backbone.register_forward_hook(self._keep)
        try:
            yield self
        finally:
            handle.remove()

    def _keep(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, ReducedTokens):
            raise TypeError(
                f'token analysis needs a StepViT that hands out tokens, {type(module).__name__} '
                f'returned {type(output).__name__}'
            )
        self.seen.append((args[0], output))

    def take(self) -> list[tuple[Tensor, ReducedTokens]]:
        """What was seen since the last call."""
        taken, self.seen = self.seen, []
        return taken
