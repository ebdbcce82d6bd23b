"""From pixels to the coarse tokens that ARTA and DUPS start with."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from .basic import for_convolutions, to_rows


class ConvPatchEmbed(nn.Module):
    """Five 3x3 stride-2 convolutions to 32 px tokens, as in the published code.

    Channels double from ``dim / 16`` to ``dim``; each convolution is followed by
    LeakyReLU and a GroupNorm of one group, the tokens by a LayerNorm.

    Args:
        dim: channels of a token; a multiple of 16.
        in_channels: channels of the images.
    """

    stride = 32

    def __init__(self, dim: int, in_channels: int = 3) -> None:
        super().__init__()
        if dim % 16:
            raise ValueError(
                f'ConvPatchEmbed needs channels that are a multiple of 16, found {dim}'
            )
        channels = [in_channels] + [dim // factor for factor in (16, 8, 4, 2, 1)]
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.LeakyReLU(0.01, inplace=True),
                nn.GroupNorm(1, after),
            )
            for before, after in pairwise(channels)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` to ``(B, H * W / 1024, dim)`` in raster order."""
        maps = for_convolutions(image)
        for conv in self.convs:
            maps = conv(maps)
        return self.norm(to_rows(maps))


class KernelPatchEmbed(nn.Module):
    """One 32x32 convolution of stride 32, as the papers describe it, and a LayerNorm.

    Args:
        dim: channels of a token.
        in_channels: channels of the images.
    """

    stride = 32

    def __init__(self, dim: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, dim, self.stride, stride=self.stride)
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` to ``(B, H * W / 1024, dim)`` in raster order."""
        return self.norm(to_rows(self.conv(image)))
