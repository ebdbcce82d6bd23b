"""Plain Vision Transformer with merged and halted tokens: SegViT, CTS, DToP, STEP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...option_checks import (
    MOST_CHANNELS,
    MOST_LAYERS,
    MOST_PIXELS,
    check_ascending,
    check_config,
    check_flag,
    check_heads,
    check_init_cfg,
    check_number,
    check_rate,
    check_ratio,
    check_whole,
)
from ...structures import host_sizes, offsets_from_lengths
from ..layers import PackedViTBlock, fit_positions, remember_grid, resize_positions
from ..token_reduction import (
    ActiveTokens,
    HaltingPoints,
    MergingPolicy,
    ReducedTokens,
    TokenLayout,
    embed_supertokens,
    true_rows,
)
from .arch import check_image_size, checked_images, resolve_arch
from .pretrained import load_pretrained


@dataclass(frozen=True)
class ViTArch:
    """Shape of a plain Vision Transformer (STEP 4.1).

    Attributes:
        embed_dims: channels.
        num_layers: blocks.
        num_heads: attention heads.
    """

    embed_dims: int
    num_layers: int
    num_heads: int

    def __post_init__(self) -> None:
        check_whole('arch', most=MOST_CHANNELS, embed_dims=self.embed_dims)
        check_whole('arch', most=MOST_LAYERS, num_layers=self.num_layers)
        check_heads('arch', self.embed_dims, num_heads=self.num_heads)


VIT_ARCHS = {'base': ViTArch(768, 12, 12), 'large': ViTArch(1024, 24, 16)}


@MODELS.register_module()
class StepViT(BaseModule):
    """Plain Vision Transformer whose tokens may be merged before it and halted within it.

    With neither it computes what the stock ``VisionTransformer`` without class token computes,
    with its parameter names, and resizes positions for any aspect ratio. ``merging`` with a
    ``policy_net`` makes it CTS (a fixed share of 2x2 groups) or dCTS (groups of several sizes by
    thresholds), ``halting`` makes it DToP, both together STEP. Tokens are packed: what is merged
    or halted leaves the computation at once, and every image keeps its own number of tokens. The
    host reads token counts once after threshold merging and once per halting point.

    Args:
        arch: 'base', 'large' or a dict with the fields of :class:`ViTArch`.
        img_size: height and width in pixels the positions are learned for.
        patch_size: side of a patch in pixels.
        out_indices: blocks, counted from 0, whose tokens go to the head; those behind the last one
            are left out. With ``halting`` only the last block's do, since the heads at the
            halting points hold the others.
        mlp_ratio: hidden over input channels of the feed-forward networks.
        drop_path_rate: largest stochastic depth probability, linear over the blocks.
        patch_bias: bias of the patch projection.
        norm_eps: epsilon of the layer norms.
        merging: config of a :class:`MergingPolicy`.
        policy_net: config of a :class:`~mmseg_arta.models.backbones.GroupPolicyNet`; with
            ``merging``. It is frozen, in eval mode, and its weights are buffers.
        halting: options of :class:`~mmseg_arta.models.token_reduction.HaltingPoints`.
        shrink_at: block, counted from 0, in which only the tokens at even rows and columns ask,
            and go on (SegViT 3.5, the Shrunk variant). Without merging and halting.
        maps: hand out dense maps ``(B, C, rows, columns)`` of patches that show the image, for
            stock heads: merged tokens are copied to the patches they cover. Not with ``halting``.
        with_cp: recompute blocks in the backward pass to save memory.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` loads weights in the layout of the
            stock backbone; a missing key is an error. Blocks that are left out are not loaded.
        in_channels: channels of the images, such as 1 for depth or grey; published weights fit 3.
            The policy network's backbone must take as many.

    Raises:
        ValueError: for options that do not fit together.
    """

    def __init__(
        self,
        arch: str | Mapping[str, int] = 'base',
        img_size: int | Sequence[int] = 512,
        patch_size: int = 16,
        out_indices: Sequence[int] = (5, 7, 11),
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.1,
        patch_bias: bool = False,
        norm_eps: float = 1e-6,
        merging: Mapping[str, Any] | None = None,
        policy_net: Mapping[str, Any] | None = None,
        halting: Mapping[str, Any] | None = None,
        shrink_at: int | None = None,
        maps: bool = False,
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | None = None,
        in_channels: int = 3,
    ) -> None:
        check_init_cfg(self, init_cfg)
        check_whole(self, most=MOST_CHANNELS, in_channels=in_channels)
        check_whole(self, most=MOST_PIXELS, patch_size=patch_size)
        check_rate(self, drop_path_rate=drop_path_rate)
        check_number(self, most=1.0, above=0.0, norm_eps=norm_eps)
        check_flag(self, patch_bias=patch_bias, maps=maps, with_cp=with_cp)
        check_config(self, ('type',), optional=True, merging=merging)
        check_config(self, ('type',), optional=True, policy_net=policy_net)
        check_config(self, ('after', 'head', 'policy'), optional=True, halting=halting)
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.arch = resolve_arch(arch, VIT_ARCHS)
        dims, depth = self.arch.embed_dims, self.arch.num_layers
        check_ratio(self, [dims], mlp_ratio=mlp_ratio)
        size = check_image_size(self, img_size, patch_size)
        self.patch_size, self.maps, self.with_cp = patch_size, maps, with_cp
        self.out_indices = check_ascending(self, 0, depth - 1, out_indices=out_indices)
        last = self.out_indices[-1]
        check_whole(self, 0, last, optional=True, shrink_at=shrink_at)
        self.shrink_at = shrink_at
        if (merging is None) != (policy_net is None):
            raise ValueError('StepViT: merging and policy_net go together, give both or neither')
        if halting is not None and (maps or self.out_indices != (depth - 1,)):
            raise ValueError(
                f'StepViT: with halting, maps must be False and out_indices ({depth - 1},), '
                f'found {maps} and {self.out_indices}'
            )
        if shrink_at is not None and (maps or merging is not None or halting is not None):
            raise ValueError(
                f'StepViT.shrink_at must be without merging, halting and maps; found {shrink_at}'
            )
        self.embed_dims = dims
        self.grid = (size[0] // patch_size, size[1] // patch_size)
        projection = nn.Conv2d(in_channels, dims, patch_size, patch_size, bias=patch_bias)
        self.patch_embed = nn.ModuleDict({'projection': projection})
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], dims))
        remember_grid(self)
        rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]
        # Blocks behind the last output would get no gradient, so they are left out.
        self.layers = nn.ModuleList(
            PackedViTBlock(dims, self.arch.num_heads, mlp_ratio, rate, norm_eps)
            for rate in rates[: last + 1]
        )
        self.merging: MergingPolicy | None = None
        if merging is not None:
            self.merging = MODELS.build(dict(merging))
            self.policy_net = MODELS.build(dict(policy_net or {}))
            self.policy_net.check_sizes(self.merging.group_sizes, patch_size)
            self.policy_net.check_channels(in_channels)
            self.policy_net.freeze()
        self.halting = None
        if halting is not None:
            self.halting = HaltingPoints(depth, **halting)

    def init_weights(self) -> None:
        """Truncated normal of std 0.02 for positions and linear layers, or the checkpoint."""
        if not self.init_cfg:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
            nn.init.kaiming_normal_(self.patch_embed['projection'].weight, mode='fan_in')
            for layer in self.layers:
                for name, parameter in layer.named_parameters():
                    if name.endswith('weight') and parameter.ndim == 2:
                        nn.init.trunc_normal_(parameter, std=0.02)
                    elif name.endswith('bias'):
                        nn.init.zeros_(parameter)
        if self.halting is not None:
            self.halting.init_weights()
        if self.merging is not None:
            self.policy_net.init_weights()
        if self.init_cfg:
            behind = range(len(self.layers), self.arch.num_layers)
            left_out = [rf'layers\.{number}\.' for number in behind]
            load_pretrained(
                self,
                self.init_cfg,
                # The file of a plain transformer; a policy network has its own.
                new=(r'halting\.', r'policy_net\.'),
                # What stands around the blocks differs between published files.
                unused=(r'(?!layers\.)', *left_out),
                adapt=self._adapt,
            )
        self._is_init = True

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Number of a parameter's layer, and how many there are, for learning rates that decay.

        As of stock Vision Transformers: patch and position embeddings are layer 0, block ``i`` is
        layer ``i + 1``, and all else, whatever follows the backbone included, is the last one.
        Blocks that are left out do not count.

        Args:
            param_name: of the parameter.
            prefix: what the names of this backbone's parameters begin with.
        """
        count = len(self.layers) + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix):
            return count - 1, count
        if name == 'pos_embed' or name.startswith('patch_embed.'):
            return 0, count
        if name.startswith('layers.'):
            return int(name.split('.')[1]) + 1, count
        return count - 1, count

    def _adapt(self, weights: dict[str, Tensor]) -> None:
        """Weights of a published transformer for this one, in place."""
        about = getattr(weights, '_metadata', {}).get('', {})
        self._fit_positions(weights, '', about.get('grid'))
        bias = self.patch_embed['projection'].bias
        if bias is not None:
            # Published weights of some models have none, which is one of zero.
            weights.setdefault('patch_embed.projection.bias', torch.zeros_like(bias))

    def _fit_positions(
        self, weights: dict[str, Any], prefix: str, grid: Sequence[int] | None
    ) -> None:
        # Published models have a class token, but drop it before the first block.
        weights.pop(f'{prefix}cls_token', None)
        key = f'{prefix}pos_embed'
        if key in weights:
            weights[key] = fit_positions(weights[key], self.grid, grid)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        self._fit_positions(state_dict, prefix, local_metadata.get('grid'))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def forward(
        self,
        image: Tensor,
        group_scores: Mapping[int, Tensor] | None = None,
        confidence: Sequence[Tensor] | None = None,
    ) -> ReducedTokens | tuple[Tensor, ...]:
        """Encode a batch of images.

        Args:
            image: ``(B, in_channels, H, W)`` normalised pixels of any size, padded with zeros
                right and below to whole patches.
            group_scores: scores to merge by instead of the policy network's, which still runs:
                group size to ``(B, rows // size, columns // size)``. For benchmarks and tests.
            confidence: per halting point ``(B, rows, columns)``, to halt by instead of the heads'.

        Returns:
            the tokens, or dense maps if ``maps`` is set.

        Raises:
            ValueError: for an empty image or batch.
        """
        image = checked_images('StepViT', image, self.in_channels, next(self.parameters()))
        height, width = host_sizes(image)[2:]
        size = (height, width)
        image = F.pad(image, (0, -size[1] % self.patch_size, 0, -size[0] % self.patch_size))
        layout = self._merge(image, size, group_scores)
        positions = resize_positions(self.pos_embed, self.grid, layout.grid)
        x = embed_supertokens(image, layout, self.patch_embed['projection'], positions)
        rows, lengths = None, layout.lengths
        batch = self._images(lengths, x.device)
        stages, halts = [], []
        for number, block in enumerate(self.layers):
            if number == self.shrink_at:
                x, rows, lengths = self._shrink(block, x, layout)
                batch = self._images(lengths, x.device)
            elif self.with_cp and x.requires_grad:
                x = checkpoint(block, x, lengths, batch, use_reentrant=False)
            else:
                x = block(x, lengths, batch)
            if number in self.out_indices:
                stages.append(ActiveTokens(x, rows, lengths))
            if self.halting is not None and number + 1 in self.halting.after:
                point = len(halts)
                given = None if confidence is None else confidence[point]
                active = ActiveTokens(x, rows, lengths)
                prediction, active = self.halting(point, active, layout, halts, given)
                halts.append(prediction)
                x, rows, lengths = active.feats, active.rows, active.lengths
                batch = self._images(lengths, x.device)
        if self.maps:
            height, width = layout.cells
            maps = (layout.to_cells(stage.feats) for stage in stages)
            return tuple(cells[:, :, :height, :width].contiguous() for cells in maps)
        return ReducedTokens(layout, tuple(stages), tuple(halts))

    def _merge(
        self, image: Tensor, size: tuple[int, int], given: Mapping[int, Tensor] | None
    ) -> TokenLayout:
        """Where the supertokens of an image are, by the policy network's scores (STEP 3.2.1)."""
        batch, _, height, width = host_sizes(image)
        grid = (height // self.patch_size, width // self.patch_size)
        if self.merging is None:
            if given is not None:
                raise ValueError('StepViT: group_scores need merging')
            return TokenLayout.plain(batch, grid, self.patch_size, size, image.device)
        scores = self.policy_net.scores(image, grid, self.patch_size)
        if given is not None:
            scores = {s: given[s].to(image.device) for s in scores}
        groups, counts = self.merging(scores)
        return TokenLayout.merged(groups, counts, grid, self.patch_size, size)

    @staticmethod
    def _shrink(
        block: PackedViTBlock, x: Tensor, layout: TokenLayout
    ) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """Run a block that a quarter of the tokens leave; their rows and numbers per image."""
        batch, length = layout.batch_size, layout.lengths[0]
        place = layout.places.view(batch, -1, 2)[0] % 2
        side = [-(-cells // 2) for cells in layout.grid]
        kept = true_rows((place == 0).all(1), side[0] * side[1])
        x = block.downsample(x.unflatten(0, (batch, length)), kept).flatten(0, 1)
        first = torch.arange(batch, device=x.device) * length
        return x, (first[:, None] + kept).flatten(), (len(kept),) * batch

    def _images(self, lengths: tuple[int, ...], device: torch.device) -> Tensor | None:
        """Image of every token, for stochastic depth."""
        if not self.training:
            return None
        counts = offsets_from_lengths(lengths, device).diff()
        images = torch.arange(len(lengths), device=device)
        return images.repeat_interleave(counts, output_size=sum(lengths))
