"""From a selected token to four finer ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...ops import gather_patches
from ...structures import FINEST_PATCH
from ..layers import Mlp

# Sub-patches in the order of the position embedding: top-left, top-right, bottom-left,
# bottom-right.
_CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))


class SubPatchEmbed(nn.Module):
    """Initialise the four tokens of a selected patch (ARTA 3.3.3, DUPS 3.2).

    A new token is the sum of its parent, an image feature of its own raw pixels, a
    learned scale embedding and a learned sub-patch position embedding.

    Args:
        dim: channels of the parents, and of the new tokens.
        patch_size: side of the new tokens' patches in pixels.
        use_image: add the image feature.
        use_parent: add the parent.
        image_hidden: channels that raw pixels are first projected to: 'dim' for ``dim``, as
            the papers say and count their parameters (DUPS appendix A), or 'pixels' for
            ``max(dim, in_channels P^2)``, as in the published segmentation weights; or 'deep': as
            'dim', with a deeper MLP and learned weights of parent and image feature, as the
            published ImageNet weights have them.
        in_channels: channels of the images.

    Raises:
        ValueError: for another ``image_hidden``.
    """

    corners: Tensor

    def __init__(
        self,
        dim: int,
        patch_size: int,
        use_image: bool = True,
        use_parent: bool = True,
        image_hidden: str = 'dim',
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if image_hidden not in ('pixels', 'dim', 'deep'):
            raise ValueError(
                f"image_hidden must be 'pixels', 'dim' or 'deep', found {image_hidden!r}"
            )
        self.patch_size = patch_size
        self.use_parent = use_parent
        corners = torch.tensor(_CORNERS, dtype=torch.int32) * (patch_size // FINEST_PATCH)
        self.register_buffer('corners', corners, persistent=False)
        self.position = nn.Parameter(torch.randn(4, dim))
        self.scale = nn.Parameter(torch.randn(dim))
        self.image_mlp: nn.Sequential | None = None
        if use_image:
            pixels = in_channels * patch_size * patch_size
            hidden = max(dim, pixels) if image_hidden == 'pixels' else dim
            self.image_mlp = nn.Sequential(
                nn.Linear(pixels, hidden),
                nn.GELU(),
                nn.LayerNorm(hidden),
                _deep_mlp(dim) if image_hidden == 'deep' else Mlp(hidden, dim, dim),
                nn.LayerNorm(dim),
            )
        self.parent_weight: nn.Parameter | None = None
        self.image_weight: nn.Parameter | None = None
        if image_hidden == 'deep' and use_parent:
            self.parent_weight = nn.Parameter(torch.ones(1))
        if image_hidden == 'deep' and use_image:
            self.image_weight = nn.Parameter(torch.ones(1))

    def forward(
        self,
        parents: Tensor,
        image: Tensor,
        xy: Tensor,
        batch: Tensor,
        parent: Tensor,
        corner: Tensor,
    ) -> Tensor:
        """Features of new tokens, ``(T, C)``.

        Args:
            parents: ``(N, C)`` candidate tokens.
            image: ``(B, in_channels, H, W)`` normalised pixels on the canvas.
            xy: ``(T, 2)`` corners of the new tokens in units of 4 px.
            batch: ``(T,)`` image of each new token.
            parent: ``(T,)`` row of each new token's parent.
            corner: ``(T,)`` which quarter of the parent it is.
        """
        feats = self.position.index_select(0, corner) + self.scale
        if self.use_parent:
            copies = parents.index_select(0, parent)
            feats = feats + (copies if self.parent_weight is None else copies * self.parent_weight)
        if self.image_mlp is not None:
            pixels = self.image_mlp(gather_patches(image, xy, batch, self.patch_size))
            feats = feats + (pixels if self.image_weight is None else pixels * self.image_weight)
        return feats


def _deep_mlp(dim: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim)]
    return nn.Sequential(*layers)


def split_selected(
    selected: Tensor, total: int, xy: Tensor, batch: Tensor, corners: Tensor, columns: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places of the four sub-patches of every selected token, in raster order per image.

    Args:
        selected: ``(N,)`` bool.
        total: number of selected tokens, known on the host.
        xy: ``(N, 2)`` int32 corners of the candidates in units of 4 px.
        batch: ``(N,)`` int64 image of each candidate.
        corners: ``(4, 2)`` int32 corners of the sub-patches in their parent, in units of 4 px.
        columns: width of the canvas in units of 4 px; it makes places sortable as one integer.

    Returns:
        ``xy (4 * total, 2)`` int32, ``batch``, ``parent`` and ``corner (4 * total,)`` int64.
    """
    # A stable sort moves the selected rows to the front in their order, without
    # the host having to learn where they are.
    first = torch.sort(selected.to(torch.uint8), descending=True, stable=True).indices
    rows = first.narrow(0, 0, total)
    places = (xy.index_select(0, rows)[:, None] + corners).view(-1, 2)
    wide = places.to(torch.int64)
    key = torch.add(wide[:, 0], wide[:, 1], alpha=columns).view(-1, 4)
    key = torch.add(key, batch.index_select(0, rows)[:, None], alpha=1 << 40)
    order = torch.sort(key.flatten()).indices
    parent = rows.index_select(0, order >> 2)
    return (
        places.index_select(0, order),
        batch.index_select(0, parent),
        parent,
        order & 3,
    )
