"""Mask2Former decode head for tokens of mixed resolution, and for dense maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

from ....ops import class_scores
from ....option_checks import (
    MOST_CHANNELS,
    MOST_PIXELS,
    MOST_WHOLE,
    check_config,
    check_flag,
    check_init_cfg,
    check_whole,
    check_wholes,
)
from ....structures import FINEST_PATCH, MixedTokens, TokenMaps, TokenSet, host_sizes
from ...losses import SetCriterion
from ..data_samples import check_cover, check_label_size, input_size, stack_labels
from ..one_channel import SCORE_THRESHOLD, check_out_channels, to_channels
from ..stock_options import refuse_stock_options
from .grid_pixel_decoder import GridPixelDecoder
from .point_pixel_decoder import PointPixelDecoder
from .positions import Normalize
from .transformer_decoder import MaskedTransformerDecoder, QueryPredictions

_PIXEL_DECODERS = {'point': PointPixelDecoder, 'grid': GridPixelDecoder}


_CRITERION = 'set criterion=dict(class_weight=..., mask_weight=..., dice_weight=...)'
#: For options that stock heads have.
_INSTEAD = {
    'channels': 'set dim',
    'feat_channels': 'set dim',
    **dict.fromkeys(('loss_cls', 'loss_decode', 'loss_dice', 'loss_mask'), _CRITERION),
}


@MODELS.register_module()
class SparseMask2FormerHead(BaseModule):
    """Mask2Former that keeps the tokens of a sparse backbone sparse (ARTA 3.5, AFF 4.1).

    A ``decode_head`` of the stock ``EncoderDecoder``. It takes :class:`MixedTokens` as the
    backbone returns them; only mask logits are dense. The maps of any stock backbone, finest
    first, are the special case of all tokens present. As the stock ``Mask2FormerHead`` it
    predicts class scores: the sum over queries of class probability x mask probability.

    Args:
        in_channels: channels of the backbone's levels, coarse to fine (of maps too).
        num_classes: classes without 'no object'.
        patch_sizes: patch sizes of the levels in pixels, coarse to fine; multiples of 4 and
            of the last one.
        dim: channels of the decoder, mask features included.
        num_queries: queries; at least as many as classes in an image.
        normalize: how sine positions are normalised: by the 'canvas', or 'max' as published.
        cell_position: positions in the densified mask features, 'learned' per offset inside
            the patch (paper), 'sine' (published code) or 'none' (usual with dense maps).
        pixel_decoder: 'point' (:class:`PointPixelDecoder`) or 'grid'
            (:class:`GridPixelDecoder`, for dense maps), or a dict of this ``type`` and further
            options. For dense maps the point decoder's ``mask_tokens`` must be 'finest'.
        transformer_decoder: further options of :class:`MaskedTransformerDecoder`.
        criterion: options of :class:`~mmseg_arta.models.losses.SetCriterion`.
        ignore_index: label of ignored pixels.
        align_corners: as stock heads have it; masks are resized without.
        init_cfg: as in every mmengine module.
        out_channels: 1 for two classes in one channel, as in stock heads: the second one's share.

    Raises:
        ValueError: if options do not fit together.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        patch_sizes: Sequence[int] = (32, 16, 8, 4),
        dim: int = 256,
        num_queries: int = 100,
        normalize: Normalize = 'canvas',
        cell_position: str = 'learned',
        pixel_decoder: str | Mapping[str, Any] = 'point',
        transformer_decoder: Mapping[str, Any] | None = None,
        criterion: Mapping[str, Any] | None = None,
        ignore_index: int = 255,
        align_corners: bool = False,
        init_cfg: Mapping[str, Any] | None = None,
        out_channels: int | None = None,
        **stock: Any,
    ) -> None:
        refuse_stock_options(self, stock, **_INSTEAD)
        check_init_cfg(self, init_cfg)
        check_wholes(self, most=MOST_CHANNELS, in_channels=in_channels)
        check_wholes(self, most=MOST_PIXELS, patch_sizes=patch_sizes)
        check_whole(self, most=MOST_CHANNELS, dim=dim, num_queries=num_queries)
        check_config(self, optional=True, transformer_decoder=transformer_decoder)
        check_config(self, optional=True, criterion=criterion)
        check_whole(self, -MOST_WHOLE, ignore_index=ignore_index)
        check_flag(self, align_corners=align_corners)
        if not isinstance(pixel_decoder, str):
            check_config(self, pixel_decoder=pixel_decoder)
        super().__init__(init_cfg)
        if len(patch_sizes) != len(in_channels):
            raise ValueError(
                f'SparseMask2FormerHead: in_channels names {len(in_channels)} levels, '
                f'patch_sizes {len(patch_sizes)}'
            )
        if any(size % FINEST_PATCH for size in patch_sizes):
            # Places of tokens are counted in finest patches.
            raise ValueError(
                f'SparseMask2FormerHead.patch_sizes must be multiples of {FINEST_PATCH}, '
                f'found {tuple(patch_sizes)}'
            )
        if any(size % patch_sizes[-1] for size in patch_sizes):
            # Masks look up the cells of the finest level that a coarser patch covers.
            raise ValueError(
                'SparseMask2FormerHead.patch_sizes, coarse to fine, must be multiples of the last, '
                f'found {tuple(patch_sizes)}'
            )
        if align_corners:
            raise ValueError('SparseMask2FormerHead.align_corners: only False is supported')
        self.in_channels, self.patch_sizes = tuple(in_channels), tuple(patch_sizes)
        self.num_classes = num_classes
        self.out_channels = check_out_channels('SparseMask2FormerHead', num_classes, out_channels)
        self.ignore_index = ignore_index
        self.align_corners = align_corners
        self.threshold = SCORE_THRESHOLD
        options: dict[str, Any] = {}
        if isinstance(pixel_decoder, str):
            options['type'] = pixel_decoder
        else:
            options.update(pixel_decoder)
        kind = options.pop('type', 'point')
        if kind not in _PIXEL_DECODERS:
            raise ValueError(
                f'SparseMask2FormerHead.pixel_decoder must be one of {sorted(_PIXEL_DECODERS)}, '
                f'found {kind!r}'
            )
        self.pixel_decoder = _PIXEL_DECODERS[kind](
            in_channels, dim=dim, mask_dim=dim, normalize=normalize, **options
        )
        finest_only = self.pixel_decoder.mask_tokens == 'finest'
        self.transformer_decoder = MaskedTransformerDecoder(
            num_classes,
            dim=dim,
            mask_dim=dim,
            num_queries=num_queries,
            num_levels=len(in_channels) - 1,
            patch_sizes=self.patch_sizes[-1:] if finest_only else self.patch_sizes,
            cell_position=cell_position,
            normalize=normalize,
            **(transformer_decoder or {}),
        )
        self.criterion = SetCriterion(num_classes, ignore_index=ignore_index, **(criterion or {}))

    def forward(self, inputs: MixedTokens | Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Raw predictions, the final one last.

        Args:
            inputs: ``MixedTokens``, or dense maps, finest first.

        Returns:
            class logits ``(B, Q, classes + 1)`` and mask logits ``(B, Q, h, w)`` of the queries
            before the first and after every layer; ``h`` and ``w`` are the image's sides over
            the finest patch size, rounded up.
        """
        tokens = self._tokens(inputs)
        queries = self._predictions(tokens)
        maps = [self._maps(queries, number, tokens) for number in range(len(queries.mask_embeds))]
        return list(queries.class_logits), maps

    def loss(
        self,
        inputs: MixedTokens | Sequence[Tensor],
        batch_data_samples: Sequence[Any],
        train_cfg: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of a batch, see :class:`~mmseg_arta.models.losses.SetCriterion`.

        Args:
            inputs: ``MixedTokens``, or dense maps, finest first.
            batch_data_samples: samples with ``gt_sem_seg``.
            train_cfg: unused.

        Raises:
            ValueError: if labels and images differ in size.
        """
        labels = stack_labels(batch_data_samples)
        tokens = self._tokens(inputs, tuple(labels.shape[1:]))
        check_label_size('SparseMask2FormerHead', labels, tokens.image_size)
        class_logits, maps = self.forward(tokens)
        size = tokens.levels[-1].patch_size
        height, width = maps[0].shape[2] * size, maps[0].shape[3] * size
        labels = F.pad(
            labels,
            (0, width - labels.shape[2], 0, height - labels.shape[1]),
            value=self.ignore_index,
        )
        return self.criterion(class_logits, maps, labels)

    def predict(
        self,
        inputs: MixedTokens | Sequence[Tensor],
        batch_img_metas: Sequence[Mapping[str, Any]],
        test_cfg: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Class scores ``(B, classes, H, W)`` at the size of the images, float32.

        Args:
            inputs: ``MixedTokens``, or dense maps.
            batch_img_metas: the first one tells the images' size behind dense maps, as it tells
                stock heads; tokens know it themselves.
            test_cfg: unused.
        """
        size = None
        if not isinstance(inputs, (MixedTokens, TokenMaps)):
            size = input_size(
                'SparseMask2FormerHead',
                host_sizes(inputs[0])[2:],
                self.patch_sizes[-1],
                batch_img_metas,
            )
        tokens = self._tokens(inputs, size)
        queries = self._predictions(tokens)
        classes = queries.class_logits[-1].float().softmax(-1)[..., :-1]
        # Sums over queries, and over windows afterwards, need more digits than half precision has.
        masks = self._maps(queries, -1, tokens).float()
        scores = class_scores(classes, masks, tokens.levels[-1].patch_size, tokens.image_size)
        return to_channels(scores, self.out_channels)

    def _tokens(
        self, inputs: MixedTokens | Sequence[Tensor], image_size: Sequence[int] | None = None
    ) -> MixedTokens:
        """The tokens given, or those of dense maps of images of ``image_size``."""
        if isinstance(inputs, MixedTokens):
            return inputs
        if isinstance(inputs, TokenMaps):
            # A neck that another head needs; this one has no use for its maps.
            return inputs.tokens
        if not isinstance(inputs, (list, tuple)) or not all(
            isinstance(maps, Tensor) and maps.ndim == 4 for maps in inputs
        ):
            raise TypeError(
                f'SparseMask2FormerHead takes MixedTokens, or maps (B, C, H, W), finest first; '
                f'found {type(inputs).__name__}'
            )
        if len(inputs) != len(self.patch_sizes):
            raise ValueError(
                f'SparseMask2FormerHead.patch_sizes names {len(self.patch_sizes)} levels, '
                f'the backbone gives {len(inputs)} maps'
            )
        if self.pixel_decoder.mask_tokens != 'finest':
            raise ValueError(
                'SparseMask2FormerHead: behind a backbone that gives dense maps, use '
                "pixel_decoder='grid' or dict(type='point', mask_tokens='finest')"
            )
        levels = tuple(
            TokenSet.from_map(maps, size)
            for maps, size in zip(reversed(inputs), self.patch_sizes, strict=True)
        )
        stride = self.patch_sizes[-1]
        rows, columns = host_sizes(inputs[0])[2:]
        canvas = (rows * stride, columns * stride)
        height, width = canvas if image_size is None else image_size[:2]
        grids = [level.grid for level in levels]
        check_cover('SparseMask2FormerHead', grids, self.patch_sizes, (height, width))
        if height > canvas[0] or width > canvas[1]:
            raise ValueError(
                f'SparseMask2FormerHead: images are {(height, width)} (height, width), but the '
                f'finest maps cover {canvas} pixels with {stride} px a cell: check patch_sizes'
            )
        return MixedTokens(levels, (height, width), canvas)

    def _predictions(self, tokens: MixedTokens) -> QueryPredictions:
        sizes = tuple(level.patch_size for level in tokens.levels)
        if sizes != self.patch_sizes:
            raise ValueError(
                f'SparseMask2FormerHead.patch_sizes is {self.patch_sizes}, but the backbone gives '
                f'levels of {sizes} px (coarse to fine)'
            )
        return self.transformer_decoder(self.pixel_decoder(tokens))

    @staticmethod
    def _maps(queries: QueryPredictions, number: int, tokens: MixedTokens) -> Tensor:
        """Mask logits of one prediction, without the canvas' padding."""
        size = tokens.levels[-1].patch_size
        height, width = (-(-side // size) for side in tokens.image_size)
        return queries.mask_logits(number)[:, :, :height, :width]
