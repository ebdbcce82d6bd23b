"""Places at which mask losses are computed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples of maps, 0 outside.

    Args:
        maps: ``(N, C, h, w)``.
        points: ``(N, P, 2)`` places ``(x, y)``, the map being the unit square.

    Returns:
        ``(N, C, P)``.
    """
    grid = points[:, :, None] * 2 - 1
    return F.grid_sample(maps, grid, align_corners=False)[..., 0]


@torch.no_grad()
def uncertain_points(
    maps: Tensor, num_points: int, oversample: float = 3.0, importance: float = 0.75
) -> Tensor:
    """Random places, most of them where a mask is undecided (PointRend's training sampling).

    ``oversample * num_points`` places are drawn; the share ``importance`` of ``num_points``
    with the smallest absolute logits is kept, the rest is drawn anew.

    Args:
        maps: ``(N, h, w)`` mask logits.
        num_points: places per mask.
        oversample: at least 1.
        importance: between 0 and 1.

    Returns:
        ``(N, num_points, 2)`` in the unit square.
    """
    masks = maps.shape[0]
    drawn = torch.rand((masks, int(num_points * oversample), 2), device=maps.device)
    logits = sample_maps(maps[:, None], drawn)[:, 0]
    kept = int(num_points * importance)
    index = logits.abs().topk(kept, dim=1, largest=False, sorted=False).indices
    chosen = drawn.gather(1, index[..., None].expand(-1, -1, 2))
    rest = torch.rand((masks, num_points - kept, 2), device=maps.device)
    return torch.cat((chosen, rest), 1)
