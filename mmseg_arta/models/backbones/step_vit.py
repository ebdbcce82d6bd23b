"""Plain Vision Transformer with merged and halted tokens: SegViT, CTS, DToP, STEP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...structures import offsets_from_lengths
from ..layers import PackedViTBlock, fit_positions, resize_positions
from ..token_reduction import (
    ActiveTokens,
    MergingPolicy,
    ReducedTokens,
    TokenLayout,
    true_rows,
)
from .halting import HaltingPoints
from .vit_embed import embed_supertokens

# Parameters of the transformer itself, without policy network and heads.
_OWN = ('pos_embed', 'patch_embed.', 'layers.')

VIT_ARCHS: dict[str, dict[str, int]] = {
    'base': dict(embed_dims=768, num_layers=12, num_heads=12),
    'large': dict(embed_dims=1024, num_layers=24, num_heads=16),
}


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
        arch: 'base', 'large' or a dict of ``embed_dims``, ``num_layers``, ``num_heads``.
        img_size: height and width in pixels the positions are learned for.
        patch_size: side of a patch in pixels.
        out_indices: blocks, counted from 0, whose tokens go to the head. With ``halting`` only
            the last block's do, since the heads at the halting points hold the others.
        mlp_ratio: hidden over input channels of the feed-forward networks.
        drop_path_rate: largest stochastic depth probability, linear over the blocks.
        patch_bias: bias of the patch projection.
        norm_eps: epsilon of the layer norms.
        merging: config of a :class:`MergingPolicy`.
        policy_net: config of a :class:`~mmseg_arta.models.backbones.GroupPolicyNet`; with
            ``merging``. It is frozen, in eval mode, and its weights are buffers.
        halting: options of :class:`~mmseg_arta.models.backbones.halting.HaltingPoints`.
        shrink_at: block, counted from 0, in which only the tokens at even rows and columns ask,
            and go on (SegViT 3.5, the Shrunk variant). Without merging and halting.
        maps: hand out dense maps ``(B, C, rows, columns)`` of patches that show the image, for
            stock heads: merged tokens are copied to the patches they cover. Not with ``halting``.
        with_cp: recompute blocks in the backward pass to save memory.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` loads weights in the layout of the
            stock backbone; a missing key is an error.

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
    ) -> None:
        super().__init__(init_cfg)
        dims, depth, heads = self._resolve(arch)
        size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        self.patch_size, self.maps, self.with_cp = patch_size, maps, with_cp
        self.out_indices = self._check_indices(out_indices, depth)
        if (merging is None) != (policy_net is None):
            raise ValueError('StepViT: merging and policy_net go together, give both or neither')
        if halting is not None and (maps or self.out_indices != (depth - 1,)):
            raise ValueError(
                f'StepViT: with halting, maps must be False and out_indices ({depth - 1},), '
                f'found {maps} and {self.out_indices}'
            )
        if shrink_at is not None and (
            maps or merging is not None or halting is not None or not 0 <= shrink_at < depth
        ):
            raise ValueError(
                f'StepViT.shrink_at must be a block below {depth}, without merging, halting and '
                f'maps; found {shrink_at}'
            )
        self.embed_dims, self.shrink_at = dims, shrink_at
        self.grid = (size[0] // patch_size, size[1] // patch_size)
        projection = nn.Conv2d(3, dims, patch_size, patch_size, bias=patch_bias)
        self.patch_embed = nn.ModuleDict({'projection': projection})
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], dims))
        rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]
        self.layers = nn.ModuleList(
            PackedViTBlock(dims, heads, mlp_ratio, rate, norm_eps) for rate in rates
        )
        self.merging: MergingPolicy | None = None
        if merging is not None:
            self.merging = MODELS.build(dict(merging))
            self.policy_net = MODELS.build(dict(policy_net or {}))
            self.policy_net.check_sizes(self.merging.group_sizes, patch_size)
            self.policy_net.freeze()
        self.halting = None
        if halting is not None:
            self.halting = HaltingPoints(depth, **halting)

    @staticmethod
    def _resolve(arch: str | Mapping[str, int]) -> tuple[int, int, int]:
        if isinstance(arch, str):
            if arch not in VIT_ARCHS:
                raise ValueError(
                    f'StepViT.arch must be one of {sorted(VIT_ARCHS)} or a dict, found {arch!r}'
                )
            arch = VIT_ARCHS[arch]
        expected = {'embed_dims', 'num_layers', 'num_heads'}
        if set(arch) != expected:
            raise ValueError(f'StepViT.arch must have {sorted(expected)}, found {sorted(arch)}')
        return arch['embed_dims'], arch['num_layers'], arch['num_heads']

    @staticmethod
    def _check_indices(indices: Sequence[int], depth: int) -> tuple[int, ...]:
        found = tuple(indices)
        if not found or sorted(set(found)) != list(found) or not 0 <= found[0] <= found[-1] < depth:
            raise ValueError(
                f'StepViT.out_indices must ascend within 0 to {depth - 1}, found {found}'
            )
        return found

    def init_weights(self) -> None:
        """Truncated normal of std 0.02 for positions and linear layers, or the checkpoint."""
        if self.init_cfg:
            self._load_pretrained()
        else:
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
        self._is_init = True

    def _load_pretrained(self) -> None:
        if self.init_cfg.get('type') != 'Pretrained':
            raise ValueError(
                f"StepViT.init_cfg must be of type 'Pretrained', found {self.init_cfg}"
            )
        source = self.init_cfg['checkpoint']
        loaded = CheckpointLoader.load_checkpoint(source, map_location='cpu')
        weights = dict(loaded.get('state_dict', loaded))
        bias = self.patch_embed['projection'].bias
        if bias is not None:
            # Published weights of some models have none, which is one of zero.
            weights.setdefault('patch_embed.projection.bias', torch.zeros_like(bias))
        missing, unknown = self.load_state_dict(weights, strict=False)
        # The file holds the transformer alone; other parts have their own.
        missing = [key for key in missing if key.startswith(_OWN)]
        if missing:
            raise ValueError(
                f'{source} does not fit StepViT: {len(missing)} weights are missing, '
                f'{missing[:10]}; it has {sorted(weights)[:10]}'
            )
        if unknown:
            print_log(f'StepViT: not used of {source}: {unknown}', logger='current')

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Published models have a class token, but drop it before the first block.
        state_dict.pop(f'{prefix}cls_token', None)
        key = f'{prefix}pos_embed'
        if key in state_dict:
            state_dict[key] = fit_positions(state_dict[key], self.grid)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(
        self,
        image: Tensor,
        group_scores: Mapping[int, Tensor] | None = None,
        confidence: Sequence[Tensor] | None = None,
    ) -> ReducedTokens | tuple[Tensor, ...]:
        """Encode a batch of images.

        Args:
            image: ``(B, 3, H, W)`` normalised pixels of any size, padded with zeros right and
                below to whole patches.
            group_scores: scores to merge by instead of the policy network's, which still runs:
                group size to ``(B, rows // size, columns // size)``. For benchmarks and tests.
            confidence: per halting point ``(B, rows, columns)``, to halt by instead of the heads'.

        Returns:
            the tokens, or dense maps if ``maps`` is set.

        Raises:
            ValueError: for an empty image or batch.
        """
        if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
            raise ValueError(
                f'StepViT needs images (B, 3, H, W) without empty sides, found {tuple(image.shape)}'
            )
        size = (image.shape[2], image.shape[3])
        image = F.pad(image, (0, -size[1] % self.patch_size, 0, -size[0] % self.patch_size))
        layout = self._layout(image, size, group_scores)
        positions = resize_positions(self.pos_embed, self.grid, layout.grid)
        x = embed_supertokens(image, layout, self.patch_embed['projection'], positions)
        lengths, rows, batch = layout.lengths, None, self._images(layout.lengths, x.device)
        stages, halts = [], []
        for number, layer in enumerate(self.layers, 1):
            if number - 1 == self.shrink_at:
                x, rows, lengths = self._shrink(layer, x, layout)
                batch = self._images(lengths, x.device)
            else:
                x = self._run(layer, x, lengths, batch)
            if number - 1 in self.out_indices:
                stages.append(ActiveTokens(x, rows, lengths))
            if self.halting is not None and number in self.halting.after:
                point = len(halts)
                given = None if confidence is None else confidence[point]
                active = ActiveTokens(x, rows, lengths)
                record, going_on = self.halting(point, active, layout, halts, given)
                halts.append(record)
                x, rows, lengths = going_on.feats, going_on.rows, going_on.lengths
                batch = self._images(lengths, x.device)
        tokens = ReducedTokens(layout, tuple(stages), tuple(halts))
        return self._maps(tokens) if self.maps else tokens

    def _layout(
        self, image: Tensor, size: tuple[int, int], given: Mapping[int, Tensor] | None
    ) -> TokenLayout:
        grid = (image.shape[2] // self.patch_size, image.shape[3] // self.patch_size)
        if self.merging is None:
            if given is not None:
                raise ValueError('StepViT: group_scores need merging')
            return TokenLayout.plain(image.shape[0], grid, self.patch_size, size, image.device)
        scores = self.policy_net.scores(image, grid, self.patch_size)
        if given is not None:
            scores = {s: given[s].to(image.device) for s in scores}
        groups, counts = self.merging(scores)
        return TokenLayout.merged(groups, counts, grid, self.patch_size, size)

    def _run(
        self, layer: nn.Module, x: Tensor, lengths: tuple[int, ...], batch: Tensor | None
    ) -> Tensor:
        if self.with_cp and x.requires_grad:
            return checkpoint(layer, x, lengths, batch, use_reentrant=False)
        return layer(x, lengths, batch)

    @staticmethod
    def _shrink(
        layer: nn.Module, x: Tensor, layout: TokenLayout
    ) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """Run a block that a quarter of the tokens leave; their rows and numbers per image."""
        place = layout.places.view(layout.batch_size, -1, 2)[0] % 2
        side = [-(-cells // 2) for cells in layout.grid]
        kept = true_rows((place == 0).all(1), side[0] * side[1])
        first = torch.arange(layout.batch_size, device=x.device) * layout.lengths[0]
        rows = (first[:, None] + kept).flatten()
        return layer.pooled(x, kept, layout.grid), rows, (len(kept),) * layout.batch_size

    def _images(self, lengths: tuple[int, ...], device: torch.device) -> Tensor | None:
        """Image of every token, for stochastic depth."""
        if not self.training:
            return None
        counts = offsets_from_lengths(lengths, device).diff()
        images = torch.arange(len(lengths), device=device)
        return images.repeat_interleave(counts, output_size=sum(lengths))

    @staticmethod
    def _maps(tokens: ReducedTokens) -> tuple[Tensor, ...]:
        height, width = tokens.layout.cells
        maps = (tokens.layout.to_cells(stage.feats) for stage in tokens.stages)
        return tuple(cells[:, :, :height, :width].contiguous() for cells in maps)
