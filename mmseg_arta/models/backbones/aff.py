"""AutoFocusFormer: adaptive downsampling, fine to coarse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...ops import published_neighborhood
from ...option_checks import (
    MOST_CHANNELS,
    MOST_LAYERS,
    MOST_WEIGHT,
    check_ascending,
    check_choice,
    check_each,
    check_flag,
    check_init_cfg,
    check_number,
    check_rate,
    check_ratio,
    check_whole,
)
from ...structures import (
    FINEST_PATCH,
    MOST_CLUSTER_SIZE,
    MixedTokens,
    Neighborhood,
    TokenSet,
    host_sizes,
)
from ..layers import ClusterBlock, Clustering, for_convolutions
from ..layers.clustering import laid_end_to_end
from .aff_downsampling import AdaptiveDownsample, GridDownsample, GridPrior
from .arch import check_stages, checked_images, resolve_arch
from .pretrained import is_pretrained, load_pretrained

_STAGES = 4


@dataclass(frozen=True)
class AFFArch:
    """Shape of an AutoFocusFormer (AFF table 1).

    Attributes:
        dims: channels of the four stages, fine to coarse.
        depths: blocks of the stages.
        num_heads: attention heads of the stages.
        mlp_ratio: hidden over input channels of all feed-forward networks.
        layer_scale_init: initial layer scale, 0 for none.
        cluster_size: tokens per cluster.
    """

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    mlp_ratio: float = 3.0
    layer_scale_init: float = 0.0
    cluster_size: int = 8

    def __post_init__(self) -> None:
        channels, blocks = (MOST_CHANNELS, _STAGES), (MOST_LAYERS, _STAGES)
        check_stages(self, dims=channels, depths=blocks, num_heads=channels)
        check_ratio('arch', self.dims, mlp_ratio=self.mlp_ratio)
        check_number('arch', 0.0, MOST_WEIGHT, layer_scale_init=self.layer_scale_init)
        check_whole('arch', 1, MOST_CLUSTER_SIZE, cluster_size=self.cluster_size)


AFF_ARCHS = {
    'mini': AFFArch((32, 128, 256, 384), (2, 2, 6, 2), (2, 4, 8, 16), 2.0),
    'tiny': AFFArch((64, 128, 256, 512), (3, 4, 18, 5), (2, 4, 8, 16)),
    'small': AFFArch((96, 192, 384, 768), (3, 4, 18, 2), (3, 6, 12, 24), layer_scale_init=1e-5),
    'base': AFFArch((128, 256, 512, 1024), (3, 4, 18, 2), (4, 8, 16, 32), layer_scale_init=1e-5),
}


class StridedPatchEmbed(nn.Module):
    """Two 3x3 stride-2 convolutions to 4 px tokens and a LayerNorm (AFF 3).

    BatchNorm and GELU follow the first convolution, which has half the channels.

    Args:
        dim: channels of a token; even.
        in_channels: channels of the images.

    Raises:
        ValueError: if ``dim`` is odd.
    """

    stride = 4

    def __init__(self, dim: int, in_channels: int = 3) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f'StridedPatchEmbed needs an even number of channels, found {dim}')
        self.conv1 = nn.Conv2d(in_channels, dim // 2, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(dim // 2)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` to ``(B, H / 4, W / 4, dim)``."""
        maps = self.conv2(self.act(self.bn(self.conv1(for_convolutions(image)))))
        return self.norm(maps.permute(0, 2, 3, 1))


class PublishedStageClustering(Clustering):
    """Clusters as the published code makes them: by its float32 key and an unstable sort.

    As it does, a stage hands out its tokens in the order of their clusters.
    """

    def arrange(self, levels: Sequence[TokenSet]) -> list[TokenSet]:
        """The stage's tokens in cluster order."""
        neighborhood = self.neighborhood(levels)
        return [
            replace(level, feats=neighborhood.to_clusters(level.feats), xy=neighborhood.xy)
            for level in levels
        ]

    def _cluster(self, levels: Sequence[TokenSet]) -> Neighborhood:
        return published_neighborhood(*laid_end_to_end(levels), *self._sizes())


#: Who decides between tokens of a stage that clustering holds equal, by name.
STAGE_CLUSTERINGS: dict[str, type[Clustering]] = {
    'raster': Clustering,
    'published': PublishedStageClustering,
}


class AFFStage(nn.Module):
    """Blocks of one stage and the norm of what it hands out (AFF 3).

    The norm is that of the stage's output; the next stage gets features without it.

    Args:
        blocks: the stage's blocks.
        dim: channels.
        cluster_size: tokens per cluster.
        neighborhood_size: tokens that a token attends to; the nearest
            ``round(neighborhood_size / cluster_size)`` clusters, or all of them if the image
            has no more tokens than this.
        with_norm: have the norm, for stages whose tokens are handed out.
        with_cp: recompute blocks in the backward pass to save memory.
        tie_order: see :class:`AutoFocusFormer`.
    """

    def __init__(
        self,
        blocks: Sequence[ClusterBlock],
        dim: int,
        cluster_size: int,
        neighborhood_size: int,
        with_norm: bool = True,
        with_cp: bool = False,
        tie_order: str = 'raster',
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim) if with_norm else nn.Identity()
        self.cluster_size, self.neighborhood_size = cluster_size, neighborhood_size
        self.with_cp, self.tie_order = with_cp, tie_order

    def forward(
        self, tokens: TokenSet, grid: tuple[int, int]
    ) -> tuple[Tensor, TokenSet, Neighborhood]:
        """Mix the tokens of a stage.

        Args:
            tokens: equally many in every image.
            grid: ``(rows, columns)`` of the canvas in units of 4 px.

        Returns:
            features ``(T, C)`` in cluster order, for the next stage; the tokens with their
            normed features, to be handed out; their neighbourhoods.
        """
        clustering = self.clustering(tokens, grid)
        neighborhood = clustering.neighborhood([tokens])
        x = neighborhood.to_clusters(tokens.feats)
        for block in self.blocks:
            if self.with_cp and self.training and x.requires_grad:
                x = checkpoint(block, x, neighborhood, use_reentrant=False)
            else:
                x = block(x, neighborhood)
        out = tokens.with_feats(neighborhood.to_tokens(self.norm(x)))
        return x, clustering.arrange([out])[0], neighborhood

    def clustering(self, tokens: TokenSet, grid: tuple[int, int]) -> Clustering:
        """Clusters of the stage's tokens, and everyone's nearest ones; all of them if few."""
        count, size = tokens.lengths[0], self.cluster_size
        near = max(round(self.neighborhood_size / size), 1)
        if count <= self.neighborhood_size:
            near = -(-count // size)
        canvas = (grid[0] * FINEST_PATCH, grid[1] * FINEST_PATCH)
        return STAGE_CLUSTERINGS[self.tie_order](canvas, size, near)


@MODELS.register_module()
class AutoFocusFormer(BaseModule):
    """Encoder that keeps the important tokens of each stage (AutoFocusFormer, CVPR 2023).

    Starts with tokens of 4 px everywhere; each stage mixes its tokens by cluster attention, and
    the next one gets the most important of them, each merged with its neighbourhood. Tokens are
    points, at places that depend on the image: those of a stage are a subset of those of the
    stage before, and each stands for the places that are nearest to it.

    Args:
        arch: 'mini', 'tiny', 'small', 'base', or a dict with the fields of
            :class:`AFFArch`.
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
        tie_order: what decides between tokens with equal sort keys in clustering: 'raster', their
            place, or 'published', the float32 sort key and the unstable sort of the published
            code. The latter is for parity with that code and its weights only: it is slower, an
            image's result depends on the others in its batch and on how this PyTorch sorts, and
            the levels' rows come in the order of their clusters instead of raster order.
        drop_path_rate: largest stochastic depth probability; it grows linearly over all blocks.
        out_stages: stages whose tokens are handed out, 0 the finest, ascending; those behind the
            last one are left out.
        with_cp: recompute blocks in the backward pass to save memory.
        init_cfg: as in every mmengine module. ``dict(type='Pretrained', ...)`` is strict: a
            checkpoint that does not fit is an error, but for norms of stages, and stages that are
            left out.
        in_channels: channels of the images, such as 1 for depth or grey; published weights fit 3.

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
        grid_prior: GridPrior = 'l2',
        reserve: bool = True,
        blank_token: bool = True,
        blank_clamp: float | None = None,
        expanded_position: bool = True,
        tie_order: str = 'raster',
        drop_path_rate: float = 0.3,
        out_stages: Sequence[int] = (0, 1, 2, 3),
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | None = None,
        in_channels: int = 3,
    ) -> None:
        check_init_cfg(self, init_cfg)
        check_whole(self, most=MOST_CHANNELS, in_channels=in_channels)
        check_number(self, above=0.0, most=1.0, downsample_rate=downsample_rate)
        check_number(self, alpha=alpha)
        check_number(self, above=0.0, optional=True, blank_clamp=blank_clamp)
        check_rate(self, drop_path_rate=drop_path_rate)
        check_choice(self, ('adaptive', 'grid'), downsample=downsample)
        check_choice(self, ('l2', 'l1', 'none'), grid_prior=grid_prior)
        check_choice(self, STAGE_CLUSTERINGS, tie_order=tie_order)
        check_flag(self, reserve=reserve, blank_token=blank_token, with_cp=with_cp)
        check_flag(self, expanded_position=expanded_position)
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.arch = resolve_arch(arch, AFF_ARCHS)
        # Counted in clusters, which the ops have so much room for.
        most = MOST_CLUSTER_SIZE * self.arch.cluster_size
        sizes = check_each(self, 1, most, _STAGES, neighborhood_size=neighborhood_size)
        self.out_stages = check_ascending(self, 0, _STAGES - 1, out_stages=out_stages)
        dims, depths = self.arch.dims, self.arch.depths
        self.out_channels = tuple(dims[stage] for stage in reversed(self.out_stages))

        total = sum(depths)
        rates = [drop_path_rate * i / max(total - 1, 1) for i in range(total)]
        self.patch_embed = StridedPatchEmbed(dims[0], in_channels)
        # Stages behind the last output would get no gradient, so they are left out.
        last = self.out_stages[-1]
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
            for stage in range(last + 1)
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
            for stage in range(last)
        )

    def init_weights(self) -> None:
        """Linear layers: truncated normal of std 0.02; convolutions as PyTorch starts them."""
        if is_pretrained(self.init_cfg):
            # A classifier has the norm of the stage that it hands out, and no other.
            norms = (r'stages\.\d\.norm\.',)
            left_out = [
                rf'(stages\.{stage}|downsamples\.{stage - 1})\.'
                for stage in range(len(self.stages), _STAGES)
            ]
            load_pretrained(self, self.init_cfg, new=norms, unused=(*norms, *left_out))
        elif self.init_cfg:
            super().init_weights()
        else:
            init_linear_layers(self)
        self._is_init = True

    def forward(self, image: Tensor) -> MixedTokens:
        """Encode a batch of images.

        Args:
            image: ``(B, in_channels, H, W)`` normalised pixels of any size; padded with zeros right
                and below to multiples of 4.

        Returns:
            The tokens of ``out_stages``, coarse to fine, as levels of kind 'point' with nominal
            patch sizes 32, 16, 8 and 4 px and ``out_channels``.

        Raises:
            ValueError: for an empty image or batch.
        """
        image = checked_images('AutoFocusFormer', image, self.in_channels, next(self.parameters()))
        height, width = host_sizes(image)[2:]
        image = F.pad(image, (0, -width % FINEST_PATCH, 0, -height % FINEST_PATCH))
        rows, columns = (side // FINEST_PATCH for side in host_sizes(image)[2:])
        canvas = (rows * FINEST_PATCH, columns * FINEST_PATCH)
        feats = self.patch_embed(image)
        grid = (rows, columns)
        tokens = TokenSet.from_map(feats.permute(0, 3, 1, 2), FINEST_PATCH, kind='point')
        levels = []
        for number, stage in enumerate(self.stages):
            x, out, neighborhood = stage(tokens, grid)
            if number in self.out_stages:
                levels.append(out)
            if number < len(self.downsamples):
                tokens = self.downsamples[number](x, tokens, neighborhood, grid)
        return MixedTokens(tuple(reversed(levels)), (height, width), canvas)


def init_linear_layers(model: nn.Module) -> None:
    """Truncated normal of std 0.02, biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
