"""ARTA: adaptive mixed-resolution token allocation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...ops import build_neighborhood
from ...structures import FINEST_PATCH, MixedTokens, Neighborhood, TokenSet
from ..allocation import AllocationPolicy, TokenAllocator
from ..layers import ConvPatchEmbed, KernelPatchEmbed, sine_position
from .arch import ARTA_ARCHS, resolve_arch
from .stages import ClusterRound, ViTRound

_PATCH_EMBEDS = {'conv': ConvPatchEmbed, 'kernel': KernelPatchEmbed}
_COARSEST_PATCH = 32
_ROUNDS = 3


@MODELS.register_module()
class ARTA(BaseModule):
    """Mixed-resolution encoder of ARTA (and of DUPS, with another policy).

    Stage 1 embeds 32 px patches, runs a pre-allocation round of ViT blocks, and then
    three allocation rounds: score the finest tokens, let the policy choose, give each
    chosen one four tokens of half the patch size, and mix all tokens by cluster
    attention. Stage 2 refines top-down: every refinement round hands out the finest
    tokens and passes the coarser ones on, joined with the same tokens' output of
    stage 1 (ARTA 3.2 to 3.4).

    Args:
        arch: 'tiny', 'small', 'base', or a dict with the fields of
            :class:`~mmseg_arta.models.backbones.arch.MixedEncoderArch`.
        allocation: config of the allocation policy, or the policy itself.
        patch_embed: 'conv' (five stride-2 convolutions, the published code) or
            'kernel' (one 32x32 convolution, the papers' text).
        straight_through: let the segmentation loss reach the scores, see
            :class:`~mmseg_arta.models.allocation.TokenAllocator`. Switched off, the
            scores learn from a ``BoundaryScoreHead`` alone.
        use_image, use_parent, image_hidden: how new tokens start, see
            :class:`~mmseg_arta.models.allocation.SubPatchEmbed`.
        drop_path_rate: largest stochastic depth probability; it grows linearly over
            all blocks, in the order in which they run.
        with_cp: recompute blocks in the backward pass to save memory.
        init_cfg: as in every mmengine module, e.g. ``dict(type='Pretrained', ...)``.

    Raises:
        ValueError: for an unknown option, or a policy that is not set up for three rounds.
    """

    archs = ARTA_ARCHS

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        allocation: Mapping[str, Any] | AllocationPolicy | None = None,
        patch_embed: str = 'conv',
        straight_through: bool = True,
        use_image: bool = True,
        use_parent: bool = True,
        image_hidden: str = 'pixels',
        drop_path_rate: float = 0.3,
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if patch_embed not in _PATCH_EMBEDS:
            raise ValueError(
                f'patch_embed must be one of {sorted(_PATCH_EMBEDS)}, found {patch_embed!r}'
            )
        self.arch = resolve_arch(arch, self.archs)
        self.straight_through = straight_through
        self.policy = self._build_policy(allocation)
        dims, heads = self.arch.dims, self.arch.num_heads
        self.out_channels = dims

        depths = (*self.arch.allocation_depths, *self.arch.refinement_depths)
        rates = [drop_path_rate * i / (sum(depths) - 1) for i in range(sum(depths))]
        per_round = [rates[sum(depths[:j]) : sum(depths[: j + 1])] for j in range(len(depths))]

        def build(kind: type[nn.Module], index: int, in_dim: int | None, level: int) -> nn.Module:
            return kind(
                in_dim,
                dims[level],
                heads[level],
                per_round[index],
                self.arch.mlp_ratio,
                self.arch.layer_scale_init,
                with_cp,
            )

        self.patch_embed = _PATCH_EMBEDS[patch_embed](dims[0])
        self.allocators = nn.ModuleList(
            TokenAllocator(
                dims[r],
                _COARSEST_PATCH >> (r + 1),
                straight_through,
                use_image,
                use_parent,
                image_hidden,
            )
            for r in range(_ROUNDS)
        )
        # The last allocation round's blocks are those of the first refinement round.
        self.allocation_rounds = nn.ModuleList(
            [
                build(ViTRound, 0, None, 0),
                build(ClusterRound, 1, dims[0], 1),
                build(ClusterRound, 2, dims[1], 2),
            ]
        )
        self.refinement_rounds = nn.ModuleList(
            [
                build(ClusterRound, 3, dims[2], 3),
                build(ClusterRound, 4, dims[3] + dims[2], 2),
                build(ClusterRound, 5, dims[2] + dims[1], 1),
                build(ViTRound, 6, dims[1] + dims[0], 0),
            ]
        )

    def _build_policy(
        self, allocation: Mapping[str, Any] | AllocationPolicy | None
    ) -> AllocationPolicy:
        if allocation is None:
            allocation = dict(type='ThresholdAllocation')
        policy = MODELS.build(dict(allocation)) if isinstance(allocation, Mapping) else allocation
        if not isinstance(policy, AllocationPolicy):
            raise ValueError(
                'allocation must be an allocation policy or its config, '
                f'found {type(policy).__name__}'
            )
        policy.check_rounds(_ROUNDS)
        return policy

    def init_weights(self) -> None:
        """Linear layers: truncated normal of std 0.02; convolutions: Kaiming normal, fan out.

        The fan of a depth-wise convolution is counted per group. The published code counts
        it over all channels, which all but silences these layers at the start.
        """
        if self.init_cfg:
            super().init_weights()
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.2, mode='fan_out')
                if module.groups > 1:
                    module.weight.data.mul_(module.groups**0.5)
                nn.init.zeros_(module.bias)
        self._is_init = True

    def forward(self, image: Tensor) -> MixedTokens:
        """Encode a batch of images.

        Args:
            image: ``(B, 3, H, W)`` normalised pixels of any size; padded with zeros right
                and below to multiples of 32.

        Returns:
            Four token levels of 32, 16, 8 and 4 px patches with ``out_channels``.

        Raises:
            ValueError: for an empty image or batch.
        """
        if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
            raise ValueError(
                f'ARTA needs images (B, 3, H, W) without empty sides, found {tuple(image.shape)}'
            )
        image_size = (image.shape[2], image.shape[3])
        image = F.pad(
            image, (0, -image.shape[3] % _COARSEST_PATCH, 0, -image.shape[2] % _COARSEST_PATCH)
        )
        canvas = (image.shape[2], image.shape[3])
        hoods: dict[int, Neighborhood] = {}

        tokens = self._embed(image)
        grid = tokens.grid
        feats = self.allocation_rounds[0](tokens.feats.unflatten(0, (image.shape[0], -1)), grid)
        levels = [tokens.with_feats(feats.flatten(0, 1))]
        laterals = [levels]
        rounds = []
        for index in range(_ROUNDS):
            candidates, children, record = self.allocators[index](
                levels[-1], image, self.policy, index
            )
            rounds.append(record)
            levels = [*levels[:-1], candidates, children]
            blocks = (*self.allocation_rounds, self.refinement_rounds[0])[index + 1]
            levels = self._cluster_round(blocks, index + 1, levels, canvas, hoods)
            laterals.append(levels)

        outputs = [levels[-1]]
        for index in (1, 2):
            levels = self._join(levels[:-1], laterals[_ROUNDS - index])
            levels = self._cluster_round(
                self.refinement_rounds[index], _ROUNDS + index, levels, canvas, hoods
            )
            outputs.append(levels[-1])
        last = self._join(levels[:-1], laterals[0])[0]
        feats = self.refinement_rounds[3](last.feats.unflatten(0, (image.shape[0], -1)), grid)
        outputs.append(last.with_feats(feats.flatten(0, 1)))
        return MixedTokens(tuple(reversed(outputs)), image_size, canvas, tuple(rounds))

    def _embed(self, image: Tensor) -> TokenSet:
        grid = (image.shape[2] // _COARSEST_PATCH, image.shape[3] // _COARSEST_PATCH)
        feats = self.patch_embed(image)
        tokens = TokenSet.from_map(feats.transpose(1, 2).unflatten(2, grid), _COARSEST_PATCH)
        # Normalised by the largest coordinate that a coarse token has on this canvas.
        extent = [float(n - 1) * tokens.unit for n in (grid[1], grid[0])]
        position = sine_position(tokens.xy, feats.shape[2], (extent[0], extent[1]))
        return tokens.with_feats(tokens.feats + position.to(feats.dtype))

    def _cluster_round(
        self,
        blocks: nn.Module,
        stage: int,
        levels: Sequence[TokenSet],
        canvas: tuple[int, int],
        hoods: dict[int, Neighborhood],
    ) -> list[TokenSet]:
        """Run a cluster-attention round on all levels; ``stage`` counts from 0 in running order."""
        hood = self._neighborhood(stage, levels, canvas, hoods)
        feats = blocks(torch.cat([level.feats for level in levels]), hood)
        parts = feats.split([len(level) for level in levels])
        return [level.with_feats(part) for level, part in zip(levels, parts, strict=True)]

    def _neighborhood(
        self,
        stage: int,
        levels: Sequence[TokenSet],
        canvas: tuple[int, int],
        hoods: dict[int, Neighborhood],
    ) -> Neighborhood:
        # Clusters depend on places alone: a refinement round that sees the tokens of
        # an allocation round uses its clusters.
        if len(levels) not in hoods:
            hoods[len(levels)] = build_neighborhood(
                torch.cat([level.xy for level in levels]),
                torch.cat([level.batch_index() for level in levels]),
                torch.stack([level.offsets.diff() for level in levels]).sum(0),
                tuple(sum(counts) for counts in zip(*(lv.lengths for lv in levels), strict=True)),
                (canvas[0] // FINEST_PATCH, canvas[1] // FINEST_PATCH),
                self.arch.cluster_size,
                self.arch.num_neighbor_clusters,
            )
        return hoods[len(levels)]

    @staticmethod
    def _join(levels: Sequence[TokenSet], laterals: Sequence[TokenSet]) -> list[TokenSet]:
        """Lateral connection: the same tokens' features of both stages, joined (ARTA 3.4.1)."""
        return [
            level.with_feats(torch.cat((level.feats, lateral.feats), 1))
            for level, lateral in zip(levels, laterals, strict=True)
        ]
