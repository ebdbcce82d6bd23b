"""What several tests share: fixtures of the published code, and small random token sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mmseg_arta.structures import TokenSet, full_grid, offsets_from_lengths

DATA = Path(__file__).parent / 'data'


def as_float(value: Any) -> Any:
    """Undo the exact half-size storage of fixtures: float16 to float32, int16 to int64."""
    if isinstance(value, torch.Tensor):
        kinds = {torch.float16: torch.float32, torch.int16: torch.int64}
        return value.to(kinds.get(value.dtype, value.dtype))
    if isinstance(value, dict):
        return {key: as_float(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_float(item) for item in value]
    return value


def load_fixture(name: str) -> dict[str, Any]:
    """A fixture below ``tests/data``."""
    loaded = as_float(torch.load(DATA / name, weights_only=True))
    loaded.pop('note')
    return loaded


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    """Asserts that values agree up to ``tolerance`` of the largest expected one."""
    scale = float(expected.abs().max()) + 1e-6
    torch.testing.assert_close(found / scale, expected / scale, atol=tolerance, rtol=0)


def raster_order(pos: torch.Tensor) -> torch.Tensor:
    """Row order ``(B, N)`` that sorts places ``(B, N, 2)`` by y, then x."""
    return (pos[..., 1].long() * 4096 + pos[..., 0].long()).argsort(1)


def take(rows: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """``rows (B, N, C)`` in the given order ``(B, N)``."""
    return rows.gather(1, order[..., None].expand(-1, -1, rows.shape[2]))


def mixed_places(
    lengths: tuple[int, ...], canvas: tuple[int, int], seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random places, interleaved images: ``xy (T, 2)``, ``batch (T,)``, ``counts (B,)``."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.cat([torch.full((n,), i) for i, n in enumerate(lengths)])
    batch = batch[torch.randperm(len(batch), generator=generator)].long()
    xy = torch.stack(
        [
            torch.randint(0, side, (len(batch),), generator=generator)
            for side in (canvas[1], canvas[0])
        ],
        1,
    ).int()
    return xy, batch, torch.tensor(lengths)


def grid_tokens(batch: int, grid: tuple[int, int], patch_size: int, dim: int = 4) -> TokenSet:
    """A level with every token present and random features."""
    lengths = (grid[0] * grid[1],) * batch
    xy = full_grid(batch, grid, patch_size, torch.device('cpu'))
    return TokenSet(
        torch.randn(len(xy), dim),
        xy,
        offsets_from_lengths(lengths, xy.device),
        lengths,
        patch_size,
        grid,
    )


def some_tokens(
    lengths: tuple[int, ...],
    grid: tuple[int, int],
    patch_size: int,
    dim: int = 4,
    kind: str = 'patch',
) -> TokenSet:
    """A level with the given number of tokens per image at random places of the grid."""
    unit = max(patch_size // 4, 1)
    rows = []
    for length in lengths:
        place = torch.randperm(grid[0] * grid[1])[:length].sort().values
        rows.append(torch.stack((place % grid[1], place // grid[1]), 1) * unit)
    xy = torch.cat(rows).int()
    return TokenSet(
        torch.randn(len(xy), dim),
        xy,
        offsets_from_lengths(lengths, xy.device),
        lengths,
        patch_size,
        grid,
        kind,
    )
