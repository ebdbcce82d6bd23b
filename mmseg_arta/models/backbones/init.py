"""Random initialisation of the mixed-resolution encoders."""

from __future__ import annotations

from torch import nn

from ..layers import PointDeformAttention, init_deform_attention


def init_mixed_encoder(encoder: nn.Module) -> None:
    """Linear layers: truncated normal of std 0.02; convolutions: Kaiming normal, fan out.

    The fan of a depth-wise convolution is counted per group. The published code counts
    it over all channels, which all but silences these layers at the start.
    """
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.2, mode='fan_out')
            if module.groups > 1:
                module.weight.data.mul_(module.groups**0.5)
            nn.init.zeros_(module.bias)
    for module in encoder.modules():
        if isinstance(module, PointDeformAttention):
            init_deform_attention(module)
