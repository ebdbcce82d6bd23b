"""AutoFocusFormer: adaptive downsampling, fine to coarse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...structures import FINEST_PATCH, MixedTokens, TokenSet
from ..layers import AdaptiveDownsample, ClusterBlock, GridDownsample, StridedPatchEmbed
from .aff_arch import resolve_aff_arch
from .aff_stage import AFFStage

_STAGES = 4


@MODELS.register_module()
class AutoFocusFormer(BaseModule):
    """Encoder that keeps the important tokens of each stage (AutoFocusFormer, CVPR 2023).

    Starts with tokens of 4 px everywhere; each stage mixes its tokens by cluster attention, and
    the next one gets the most important of them, each merged with its neighbourhood. Tokens are
    points: those of a stage are among those of the stage before, in places that depend on the
    image, and stand for the places nearest to them.

    Args:
        arch: 'mini', 'tiny', 'small', 'base', or a dict with the fields of
            :class:`~mmseg_arta.models.backbones.aff_arch.AFFArch`.
        downsample_rate: share of tokens that the next stage gets, published 1/4 and 1/5.
        neighborhood_size: tokens that a token attends to, for all stages or one for each; a
            stage whose images have no more tokens than this attends globally.
        downsample: 'adaptive', or 'grid' for 2x2 merging on regular grids (ablation; no option
            on tokens' importance has a meaning then).
        alpha: weight of the learned importance against the grid prior.
        grid_prior: 'l2' (distances as in the published code), 'l1' (as in the paper) or 'none'.
        reserve: keep the tokens of a coarse regular grid whatever their importance.
        blank_token: have a learnable blank token in every attention (AFF 4.3).
        blank_clamp: bound on the blank token's logit, None for no bound.
        expanded_position: learn from distance, sine and cosine of relative positions too
            (AFF 4.2), not from ``(dx, dy)`` alone.
        tie_order: who decides between tokens that clustering holds equal: 'raster', their
            place, or 'published', the float32 sort key and the unstable sort of the published
            code. The latter is for parity with that code and its weights only: it is slower, an
            image's result depends on the others in its batch and on how this PyTorch sorts, and
            the levels' rows come in the order of their clusters instead of raster order.
        drop_path_rate: largest stochastic depth probability; it grows linearly over all blocks.
        out_stages: stages whose tokens are handed out, 0 the finest, ascending.
        with_cp: recompute blocks in the backward pass to save memory.
        init_cfg: as in every mmengine module, e.g. ``dict(type='Pretrained', ...)``.

    Raises:
        ValueError: for an unknown option or one out of range.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        downsample_rate: float = 0.25,
        neighborhood_size: int | Sequence[int] = 48,
        downsample: str = 'adaptive',
        alpha: float = 4.0,
        grid_prior: str = 'l2',
        reserve: bool = True,
        blank_token: bool = True,
        blank_clamp: float | None = None,
        expanded_position: bool = True,
        tie_order: str = 'raster',
        drop_path_rate: float = 0.3,
        out_stages: Sequence[int] = (0, 1, 2, 3),
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.arch = resolve_aff_arch(arch)
        sizes = _per_stage('neighborhood_size', neighborhood_size)
        if downsample not in ('adaptive', 'grid'):
            raise ValueError(f"downsample must be 'adaptive' or 'grid', found {downsample!r}")
        if not 0.0 < downsample_rate <= 1.0:
            raise ValueError(f'downsample_rate must be a share in (0, 1], found {downsample_rate}')
        if tie_order not in ('raster', 'published'):
            raise ValueError(f"tie_order must be 'raster' or 'published', found {tie_order!r}")
        self.out_stages = tuple(out_stages)
        if not self.out_stages or self.out_stages != tuple(
            stage for stage in range(_STAGES) if stage in self.out_stages
        ):
            raise ValueError(
                f'out_stages must name stages from 0 to {_STAGES - 1}, ascending, '
                f'found {list(out_stages)}'
            )
        dims, depths = self.arch.dims, self.arch.depths
        self.out_channels = tuple(dims[stage] for stage in reversed(self.out_stages))

        total = sum(depths)
        rates = [drop_path_rate * i / max(total - 1, 1) for i in range(total)]
        self.patch_embed = StridedPatchEmbed(dims[0])
        self.stages = nn.ModuleList(
            AFFStage(
                [
                    ClusterBlock(
                        dims[stage],
                        self.arch.num_heads[stage],
                        self.arch.mlp_ratio,
                        rate,
                        self.arch.layer_scale_init,
                        blank_clamp,
                        blank_token,
                        expanded_position,
                    )
                    for rate in rates[sum(depths[:stage]) : sum(depths[: stage + 1])]
                ],
                dims[stage],
                self.arch.cluster_size,
                sizes[stage],
                stage in self.out_stages,
                with_cp,
                tie_order,
            )
            for stage in range(_STAGES)
        )
        self.downsamples = nn.ModuleList(
            GridDownsample(dims[stage], dims[stage + 1], 2 << stage)
            if downsample == 'grid'
            else AdaptiveDownsample(
                dims[stage],
                dims[stage + 1],
                2 << stage,
                downsample_rate,
                alpha,
                grid_prior,
                reserve,
                expanded_position,
            )
            for stage in range(_STAGES - 1)
        )

    def init_weights(self) -> None:
        """Linear layers: truncated normal of std 0.02; convolutions as PyTorch starts them."""
        if self.init_cfg:
            super().init_weights()
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self._is_init = True

    def forward(self, image: Tensor) -> MixedTokens:
        """Encode a batch of images.

        Args:
            image: ``(B, 3, H, W)`` normalised pixels of any size; padded with zeros right
                and below to multiples of 4.

        Returns:
            The tokens of ``out_stages``, coarse to fine, as levels of kind 'point' with nominal
            patch sizes 32, 16, 8 and 4 px and ``out_channels``.

        Raises:
            ValueError: for an empty image or batch.
        """
        if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
            raise ValueError(
                f'AutoFocusFormer needs images (B, 3, H, W) without empty sides, '
                f'found {tuple(image.shape)}'
            )
        image_size = (image.shape[2], image.shape[3])
        image = F.pad(image, (0, -image.shape[3] % FINEST_PATCH, 0, -image.shape[2] % FINEST_PATCH))
        canvas = (image.shape[2], image.shape[3])
        feats = self.patch_embed(image)
        grid = (feats.shape[1], feats.shape[2])
        tokens = TokenSet.from_map(feats.permute(0, 3, 1, 2), FINEST_PATCH, kind='point')
        levels = []
        for number, stage in enumerate(self.stages):
            hood = stage.neighborhood(tokens, grid)
            x, out = stage(tokens, hood)
            if number in self.out_stages:
                levels.append(out)
            if number < len(self.downsamples):
                tokens = self.downsamples[number](x, tokens, hood, grid)
        return MixedTokens(tuple(reversed(levels)), image_size, canvas)


def _per_stage(name: str, value: int | Sequence[int]) -> tuple[int, ...]:
    values = (value,) * _STAGES if isinstance(value, int) else tuple(value)
    if len(values) != _STAGES or any(v < 1 for v in values):
        raise ValueError(f'{name} must be a positive integer or {_STAGES} of them, found {value!r}')
    return values
