"""From pixels to the fine tokens that AutoFocusFormer starts with."""

from __future__ import annotations

from torch import Tensor, nn

from .grid_maps import for_convolutions


class StridedPatchEmbed(nn.Module):
    """Two 3x3 stride-2 convolutions to 4 px tokens and a LayerNorm (AFF 3).

    BatchNorm and GELU follow the first convolution, which has half the channels.

    Args:
        dim: channels of a token; even.

    Raises:
        ValueError: if ``dim`` is odd.
    """

    stride = 4

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f'StridedPatchEmbed needs an even number of channels, found {dim}')
        self.conv1 = nn.Conv2d(3, dim // 2, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(dim // 2)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to ``(B, H / 4, W / 4, dim)``."""
        maps = self.conv2(self.act(self.bn(self.conv1(for_convolutions(image)))))
        return self.norm(maps.permute(0, 2, 3, 1))
