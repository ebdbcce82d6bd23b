"""The encoder that ARTA and DUPS share: allocate finer tokens, then refine top-down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...option_checks import (
    MOST_CHANNELS,
    check_choice,
    check_flag,
    check_init_cfg,
    check_rate,
    check_whole,
)
from ...structures import MixedTokens, TokenSet, host_sizes
from ..allocation import (
    Allocation,
    AllocationPolicy,
    TokenAllocator,
    TokenBound,
    allocate_reconsidering,
    build_policy,
)
from ..layers import (
    CLUSTERINGS,
    Clustering,
    ConvPatchEmbed,
    EncoderLayout,
    KernelPatchEmbed,
    PointDeformAttention,
    init_deform_attention,
    sine_position,
    to_maps,
)
from .arch import MixedEncoderArch, checked_images, resolve_arch
from .encoder_rounds import COARSE_ROUNDS, MIXED_ROUNDS, BlockShape, EncoderRound
from .pretrained import is_pretrained, load_pretrained

_PATCH_EMBEDS = {'conv': ConvPatchEmbed, 'kernel': KernelPatchEmbed}
_PADDING_MODES = {'zeros': 'constant', 'replicate': 'replicate'}
_COARSEST_PATCH = 32
_ROUNDS = 3
# ImageNet weights have no score predictors, and published ones another image MLP, which the
# converter leaves out.
_NOT_PRETRAINED = (r'allocators\.\d\.score\.', r'allocators\.\d\.embed\.(image|parent)_')


class MixedResolutionEncoder(BaseModule):
    """Coarse-to-fine encoder on tokens of mixed resolution (ARTA 3.2 to 3.4, DUPS 3.1).

    Stage 1 embeds 32 px patches, runs a pre-allocation round of ViT blocks, and then
    three allocation rounds: score the finest tokens, let the policy choose, give each
    chosen one four tokens of half the patch size, and mix all tokens by cluster
    attention. Stage 2 refines top-down: every refinement round hands out the finest
    tokens and passes the coarser ones on, joined with the same tokens' output of
    stage 1.

    ``torch.compile(encoder)`` makes one graph for all token counts; the host reads them once a
    round, inside the graph (PyTorch 2.13). Only ``tie_order='published'``, and
    ``OracleAllocation`` in training, split it, and are not taken with ``fullgraph=True``.

    Args:
        arch: name of a published size, or a dict with the fields of
            :class:`~mmseg_arta.models.backbones.arch.MixedEncoderArch`. A single entry in
            ``refinement_depths`` leaves stage 2 out but for its first round, at 4 px; every
            round then hands out its finest tokens (ARTA 4.3.4).
        allocation: config of the allocation policy, ``dict(train=..., test=...)`` with a
            policy for each mode, or the policy itself; ``default_allocation`` if None.
        patch_embed: 'conv' (five stride-2 convolutions, the published code) or
            'kernel' (one 32x32 convolution, the papers' text).
        straight_through: let the segmentation loss reach the scores, see
            :class:`~mmseg_arta.models.allocation.TokenAllocator`. Switched off, the
            scores learn from a ``BoundaryScoreHead`` alone.
        use_image, use_parent, image_hidden: how new tokens start, see
            :class:`~mmseg_arta.models.allocation.SubPatchEmbed`.
        coarse_block: blocks of the first and the last round, which see the 32 px tokens
            alone: 'vit', 'swin', 'convnextv2' or 'cluster' (ARTA table 5).
        mixed_block: blocks of all other rounds: 'cluster'; 'msdeform', multi-scale deformable
            attention on points; or 'vit', global attention, whose cost grows with the square of
            the tokens: for small images only (ARTA table 5).
        coarse_position: how the 32 px tokens start: with 'sine' positions relative to the image, as
            in the papers, so that places shift where images are larger than training crops; or with
            'none': padding in the convolutions then tells where the borders are.
        padding_mode: what fills the canvas right of and below an image whose sides are no multiples
            of 32: 'zeros', the mean colour, as in the published code; or 'replicate', its last
            column and row, so that tokens across the border look like others to a model that saw
            few of them in training. What a preprocessor pads before that stays as it is.
        tie_order: what decides between tokens with equal sort keys in clustering: 'raster',
            their place, or 'published', the order and the float32 sort key of the published
            code. The latter is for parity with that code and its weights only: it is
            slower, an image's result depends on the others in its batch, and the levels'
            rows come in the published order instead of raster order.
        scored: have score predictors. Pre-training on images does without (ARTA 4.2); the
            policy must then be one that looks at no scores, such as ``RandomAllocation``.
        drop_path_rate: largest stochastic depth probability; it grows linearly over
            all blocks, in the order in which they run.
        with_cp: recompute blocks in the backward pass to save memory.
        init_cfg: as in every mmengine module. ``dict(type='Pretrained', ...)`` is strict: a
            checkpoint that does not fit is an error, but for score predictors and image MLPs,
            which it need not hold.
        in_channels: channels of the images, such as 1 for depth or grey; published weights fit 3.
        max_tokens: most tokens of an image, of all levels after all rounds and the coarse ones
            included, in training and inference, whatever the policy selects; None for no bound.
            Where a round selects more than there is room for, the highest scores get children.

    Raises:
        ValueError: for an unknown option, or a policy that is not set up for three rounds.
    """

    archs: ClassVar[Mapping[str, MixedEncoderArch]] = {}
    default_allocation: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        allocation: Mapping[str, Any] | AllocationPolicy | None = None,
        patch_embed: str = 'conv',
        straight_through: bool = True,
        use_image: bool = True,
        use_parent: bool = True,
        image_hidden: str = 'dim',
        coarse_block: str = 'vit',
        mixed_block: str = 'cluster',
        coarse_position: str = 'sine',
        padding_mode: str = 'zeros',
        tie_order: str = 'raster',
        scored: bool = True,
        drop_path_rate: float = 0.3,
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | None = None,
        in_channels: int = 3,
        max_tokens: int | None = None,
    ) -> None:
        check_init_cfg(self, init_cfg)
        check_whole(self, most=MOST_CHANNELS, in_channels=in_channels)
        check_whole(self, optional=True, max_tokens=max_tokens)
        check_choice(self, _PATCH_EMBEDS, patch_embed=patch_embed)
        check_choice(self, ('pixels', 'dim', 'deep'), image_hidden=image_hidden)
        check_choice(self, COARSE_ROUNDS, coarse_block=coarse_block)
        check_choice(self, MIXED_ROUNDS, mixed_block=mixed_block)
        check_choice(self, ('sine', 'none'), coarse_position=coarse_position)
        check_choice(self, _PADDING_MODES, padding_mode=padding_mode)
        check_choice(self, CLUSTERINGS, tie_order=tie_order)
        check_flag(self, straight_through=straight_through, scored=scored, with_cp=with_cp)
        check_flag(self, use_image=use_image, use_parent=use_parent)
        check_rate(self, drop_path_rate=drop_path_rate)
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.max_tokens = max_tokens
        self.arch = resolve_arch(arch, self.archs)
        self.straight_through = straight_through and scored
        self.policy = build_policy(self.default_allocation if allocation is None else allocation)
        self.policy.check_rounds(_ROUNDS)
        if not scored and self.policy.uses_scores:
            raise ValueError(
                'scored=False leaves no scores to select by: allocation must be RandomAllocation '
                f'or FullAllocation, found {self.policy}'
            )
        self.coarse_position, self.tie_order = coarse_position, tie_order
        self.padding_mode = padding_mode
        if tie_order == 'published':
            self._check_published_order(mixed_block)
        dims = self.arch.dims
        self.out_channels = dims

        depths = (*self.arch.allocation_depths, *self.arch.refinement_depths)
        rates = [drop_path_rate * i / max(sum(depths) - 1, 1) for i in range(sum(depths))]

        def build(index: int, in_dim: int | None, level: int) -> EncoderRound:
            """Round ``index`` in running order, whose finest tokens are those of ``level``."""
            kind, make_block = MIXED_ROUNDS[mixed_block] if level else COARSE_ROUNDS[coarse_block]
            shape = BlockShape(
                dims[level],
                self.arch.num_heads[level],
                self.arch.mlp_ratio,
                self.arch.layer_scale_init,
                level + 1,
            )
            of_round = rates[sum(depths[:index]) : sum(depths[: index + 1])]
            return kind(in_dim, shape, make_block, of_round, with_cp)

        self.patch_embed = _PATCH_EMBEDS[patch_embed](dims[0], in_channels)
        self.allocators = nn.ModuleList(
            TokenAllocator(
                dims[r],
                _COARSEST_PATCH >> (r + 1),
                straight_through,
                use_image,
                use_parent,
                image_hidden,
                scored,
                in_channels,
            )
            for r in range(_ROUNDS)
        )
        # The pre-allocation round, then those after the first and the second allocator. What
        # mixes tokens after the third one is the first refinement round.
        self.allocation_rounds = nn.ModuleList(
            [build(0, None, 0), build(1, dims[0], 1), build(2, dims[1], 2)]
        )
        self.refinement_rounds = nn.ModuleList([build(3, dims[2], 3)])
        if self.arch.refines:
            for index, level in ((4, 2), (5, 1), (6, 0)):
                self.refinement_rounds.append(build(index, dims[level + 1] + dims[level], level))

    def _check_published_order(self, mixed_block: str) -> None:
        if mixed_block != 'cluster':
            raise ValueError(
                f"tie_order='published' needs mixed_block='cluster', found {mixed_block!r}"
            )
        if any(self.policy.reconsiders(training) for training in (True, False)):
            raise ValueError(
                "tie_order='published' needs a policy that looks at the finest tokens alone, "
                'found one that reconsiders coarser ones'
            )

    def init_weights(self) -> None:
        """At random, see :func:`init_mixed_encoder`, and then from ``init_cfg``."""
        init_mixed_encoder(self)
        if is_pretrained(self.init_cfg):
            load_pretrained(self, self.init_cfg, new=_NOT_PRETRAINED)
        elif self.init_cfg:
            super().init_weights()
        self._is_init = True

    def forward(
        self, image: Tensor, boundary_scores: Sequence[Tensor] | None = None
    ) -> MixedTokens:
        """Encode a batch of images.

        Args:
            image: ``(B, in_channels, H, W)`` normalised pixels of any size; padded right and
                below to multiples of 32, see ``padding_mode``.
            boundary_scores: ground truth for :class:`OracleAllocation`: one map
                ``(B, rows, columns)`` per allocation round, the shares of class-boundary
                pixels in the patches of 32, 16 and 8 px.

        Returns:
            Four token levels of 32, 16, 8 and 4 px patches with ``out_channels``.

        Raises:
            ValueError: for an empty image or batch, a wrong number of boundary maps, or more
                coarse tokens than ``max_tokens``.
        """
        weight = next(self.parameters())
        image = checked_images(type(self).__name__, image, self.in_channels, weight)
        if boundary_scores is not None and len(boundary_scores) != _ROUNDS:
            raise ValueError(
                f'boundary_scores must hold one map per allocation round: expected {_ROUNDS}, '
                f'found {len(boundary_scores)}'
            )
        height, width = host_sizes(image)[2:]
        image_size = (height, width)
        # In whole patches, which is what compilers reason about token counts with.
        rows, columns = (-(-side // _COARSEST_PATCH) for side in image_size)
        canvas = (rows * _COARSEST_PATCH, columns * _COARSEST_PATCH)
        if self.max_tokens is not None and rows * columns > self.max_tokens:
            raise ValueError(
                f'{type(self).__name__}.max_tokens must be at least {rows * columns}, the coarse '
                f'tokens of an image of {image_size} (height, width), found {self.max_tokens}'
            )
        missing = (0, canvas[1] - image_size[1], 0, canvas[0] - image_size[0])
        image = F.pad(image, missing, _PADDING_MODES[self.padding_mode])
        layout = EncoderLayout.of(self.clustering(canvas), canvas)

        state = self._allocate(image, image_size, layout, boundary_scores)
        levels = self._refine(state, layout)
        levels = layout.clustering.arrange(levels)
        return MixedTokens(tuple(levels), image_size, canvas, (*state.records, *state.late_records))

    def clustering(self, canvas: tuple[int, int]) -> Clustering:
        """Clusters of one forward pass on a canvas ``(height, width)`` in pixels."""
        sizes = (self.arch.cluster_size, self.arch.num_neighbor_clusters)
        return CLUSTERINGS[self.tie_order](canvas, *sizes)

    def embed(self, image: Tensor) -> TokenSet:
        """32 px tokens of a canvas ``(B, in_channels, H, W)`` and their positions (ARTA 3.2.1)."""
        height, width = host_sizes(image)[2:]
        grid = (height // _COARSEST_PATCH, width // _COARSEST_PATCH)
        feats = self.patch_embed(image)
        tokens = TokenSet.from_map(to_maps(feats, grid), _COARSEST_PATCH)
        if self.coarse_position == 'none':
            return tokens
        # Normalised by the largest coordinate that a coarse token has on this canvas.
        position = sine_position(tokens.xy, feats.shape[2], tokens.xy.amax(0))
        return tokens.with_feats(tokens.feats + position.to(feats.dtype))

    def _allocate(
        self,
        image: Tensor,
        image_size: tuple[int, int],
        layout: EncoderLayout,
        truth: Sequence[Tensor] | None,
    ) -> Allocation:
        """Stage 1 (ARTA 3.2.2): score, select, give children, mix; three times.

        The last mixing is the first refinement round, at 4 px.
        """
        rounds = (*self.allocation_rounds, self.refinement_rounds[0])
        levels = rounds[0]([self.embed(image)], layout)
        if self.policy.reconsiders(self.training):
            return allocate_reconsidering(
                levels,
                rounds,
                self.allocators,
                self.policy,
                image,
                layout,
                truth,
                self.max_tokens,
                image_size,
            )
        state = Allocation([levels])
        for index, allocator in enumerate(self.allocators):
            *coarser, candidates = levels
            candidates, children, record = allocator(
                candidates,
                image,
                self.policy,
                index,
                tuple(level.lengths for level in levels),
                None if truth is None else truth[index],
                TokenBound.on(levels, self.max_tokens),
                image_size,
            )
            layout.clustering.allocated(record, children)
            levels = rounds[index + 1]([*coarser, candidates, children], layout)
            state.levels_after.append(levels)
            state.records.append(record)
        return state

    def _refine(self, state: Allocation, layout: EncoderLayout) -> list[TokenSet]:
        """Stage 2 (ARTA 3.4): hand out the finest tokens, join the lateral ones, mix.

        Returns:
            Tokens of every level, coarse to fine.
        """
        if not self.arch.refines:
            return [levels[-1] for levels in state.levels_after]
        *laterals, levels = state.levels_after
        outputs = []
        for mix, lateral in zip(self.refinement_rounds[1:], reversed(laterals), strict=True):
            *levels, finest = levels
            outputs.append(finest)
            levels = mix(join(levels, lateral), layout)
        return [*levels, *reversed(outputs)]


def join(levels: Sequence[TokenSet], laterals: Sequence[TokenSet]) -> list[TokenSet]:
    """Lateral connection: the same tokens' features of both stages, joined (ARTA 3.4.1)."""
    return [
        level.with_feats(torch.cat((level.feats, lateral.feats), 1))
        for level, lateral in zip(levels, laterals, strict=True)
    ]


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
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in encoder.modules():
        if isinstance(module, PointDeformAttention):
            init_deform_attention(module)
