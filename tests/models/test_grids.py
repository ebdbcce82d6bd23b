"""Weights that belong to a grid of patches find their places in another grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import load_checkpoint, save_checkpoint
from mmengine.runner.checkpoint import weights_to_cpu
from torch import Tensor, nn

from mmseg_arta.models import ShrunkATMHead, StepViT
from mmseg_arta.models.layers import fit_positions, resize_positions
from mmseg_arta.safe_load import load_safely

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2)


def vit(rows: int, columns: int, **options: Any) -> StepViT:
    return StepViT(arch=ARCH, img_size=(16 * rows, 16 * columns), out_indices=(1,), **options)


def head(rows: int, columns: int) -> ShrunkATMHead:
    return ShrunkATMHead(
        in_channels=32, channels=16, num_heads=2, num_classes=3, grid=(rows, columns)
    )


def numbered(module: nn.Module) -> Tensor:
    """A module's positions ``(1, N, C)``, set to numbers that tell rows from columns."""
    found = module.pos_embed if isinstance(module, StepViT) else module.token_queries.weight
    rows, columns = module.grid
    grid = torch.arange(rows)[:, None] * 100.0 + torch.arange(columns)
    with torch.no_grad():
        found.copy_(grid.flatten()[:, None].expand(found.shape[-2:]).reshape(found.shape))
    return found.detach().reshape(1, rows * columns, -1)


def positions(module: nn.Module) -> Tensor:
    found = module.pos_embed if isinstance(module, StepViT) else module.token_queries.weight
    return found.detach().reshape(1, -1, found.shape[-1])


GRIDS = [
    ((4, 16), (8, 8)),
    ((8, 8), (4, 16)),
    ((4, 16), (16, 4)),
    ((4, 16), (4, 16)),
    ((3, 5), (6, 7)),
]


@pytest.mark.parametrize('make', [vit, head], ids=['vit', 'head'])
@pytest.mark.parametrize(('one', 'other'), GRIDS, ids=str)
def test_a_saved_grid_is_resized_to_the_loaded_one(make, one, other, tmp_path: Path) -> None:
    source, target = make(*one), make(*other)
    expected = resize_positions(numbered(source), one, other)
    # As MMEngine saves and loads.
    whole = nn.ModuleDict(dict(part=source))
    save_checkpoint(dict(state_dict=weights_to_cpu(whole.state_dict())), str(tmp_path / 'a.pth'))
    into = nn.ModuleDict(dict(part=target))
    load_checkpoint(into, str(tmp_path / 'a.pth'), strict=True)
    torch.testing.assert_close(positions(target), expected)
    # And the safe way, by hand.
    target = make(*other)
    nn.ModuleDict(dict(part=target)).load_state_dict(load_safely(tmp_path / 'a.pth')['state_dict'])
    torch.testing.assert_close(positions(target), expected)


def test_init_cfg_reads_the_grid_below_its_prefix(tmp_path: Path) -> None:
    source = vit(4, 16)
    expected = resize_positions(numbered(source), (4, 16), (16, 4))
    whole = nn.ModuleDict(dict(backbone=source))
    torch.save(dict(state_dict=whole.state_dict()), tmp_path / 'a.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), prefix='backbone.')
    target = vit(16, 4, init_cfg=init_cfg)
    target.init_weights()
    torch.testing.assert_close(positions(target), expected)


@pytest.mark.parametrize('token', [0, 1], ids=['', 'with class token'])
def test_without_a_saved_grid_a_square_count_is_a_square(token: int) -> None:
    given = torch.randn(1, 64 + token, 8)
    found = fit_positions(given, (4, 16))
    torch.testing.assert_close(found, resize_positions(given[:, token:], (8, 8), (4, 16)))
    assert torch.equal(fit_positions(given, (8, 8)), given[:, token:])
    oblong = torch.randn(1, 15 + token, 8)
    if not token:  # 15 and a class token are a square
        assert torch.equal(fit_positions(oblong, (3, 5)), oblong)


def test_what_fits_no_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r'has 23 positions: expected 4x16 or a square grid'):
        fit_positions(torch.randn(1, 23, 8), (4, 16))
    with pytest.raises(ValueError, match=r'has 64 positions: expected 5x5, which the checkpoint'):
        fit_positions(torch.randn(1, 64, 8), (4, 16), (5, 5))
