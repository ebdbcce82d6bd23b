"""Small models and random samples that several tests share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

#: ``arch`` of the smallest ARTA.
NANO = dict(
    dims=(32, 32, 16, 16),
    num_heads=(2, 2, 2, 1),
    allocation_depths=(1, 1, 1),
    refinement_depths=(1, 1, 1, 1),
    mlp_ratio=2.0,
)
#: The smallest sparse Mask2Former behind it, for five classes.
SMALL_HEAD = dict(
    type='SparseMask2FormerHead',
    in_channels=NANO['dims'],
    num_classes=5,
    dim=16,
    num_queries=8,
    pixel_decoder=dict(num_layers=1, num_heads=2, hidden=32),
    transformer_decoder=dict(num_layers=3, num_heads=2, hidden=32),
)


def sparse_segmentor(test_cfg: Mapping[str, Any] | None = None, **head: Any) -> nn.Module:
    """The smallest ARTA with sparse Mask2Former, all tokens allocated; ``head`` changes options."""
    return _segmentor(
        test_cfg,
        backbone=dict(
            type='ARTA',
            arch=NANO,
            allocation=dict(type='ThresholdAllocation', thresholds=(0.0, 0.0, 0.0)),
        ),
        decode_head={**SMALL_HEAD, **head},
        auxiliary_head=dict(type='BoundaryScoreHead'),
    )


def dense_segmentor(
    pixel_decoder: Mapping[str, Any], test_cfg: Mapping[str, Any] | None = None
) -> nn.Module:
    """A small MiT with Mask2Former on its maps."""
    options = dict(num_layers=1, num_heads=2, hidden=32)
    return _segmentor(
        test_cfg,
        backbone=dict(
            type='MixVisionTransformer',
            embed_dims=8,
            num_layers=[1, 1, 1, 1],
            num_heads=[1, 1, 1, 1],
            mlp_ratio=2,
        ),
        decode_head=dict(
            type='SparseMask2FormerHead',
            in_channels=(8, 8, 8, 8),
            num_classes=5,
            dim=32,
            num_queries=8,
            cell_position='none',
            pixel_decoder={**pixel_decoder, **options},
            transformer_decoder=dict(num_layers=3, num_heads=2, hidden=32),
        ),
    )


def _segmentor(test_cfg: Mapping[str, Any] | None, **parts: Any) -> nn.Module:
    test_cfg = test_cfg or dict(mode='whole')
    parts.setdefault('type', 'EncoderDecoder')
    model = MODELS.build(dict(train_cfg=dict(), test_cfg=test_cfg, **parts))
    model.test_cfg = ConfigDict(model.test_cfg)
    return model


def samples(size: tuple[int, int], classes: int = 5, batch: int = 2) -> list[SegDataSample]:
    """Samples of images of ``size`` (height, width) with random labels."""
    out = []
    for _ in range(batch):
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, classes, (1, *size)))
        out.append(sample)
    return out


_MERGED = dict(type='GroupPolicyNet', head=dict(group_sizes=(2,)))
_ATM = dict(in_channels=32, channels=16, num_classes=5, num_layers=2, num_heads=2)
_HALTING = dict(
    after=(1,),
    head=dict(type='ATMTokenClassifier', **_ATM),
    policy=dict(type='ConfidenceHalting', threshold=0.5),
)
_ONE_BLOCK = dict(dims=(32, 32, 32, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
_HALF_REFINED = dict(type='FixedRatioAllocation', ratios=(0.5, 0.5, 0.5))
_SPARSE = dict(SMALL_HEAD, in_channels=(32, 32, 32, 32), cell_position='none')


def _vit(**options: Any) -> dict[str, Any]:
    arch = dict(embed_dims=32, num_layers=3, num_heads=2)
    return dict(type='StepViT', arch=arch, img_size=64, **options)


def _sparse(**options: Any) -> dict[str, Any]:
    return {**_SPARSE, 'pixel_decoder': dict(SMALL_HEAD['pixel_decoder'], **options)}


#: Parts of the smallest segmentor of every family, for five classes.
FAMILIES: dict[str, dict[str, Any]] = {
    'ARTA': dict(
        backbone=dict(type='ARTA', arch=NANO, allocation=_HALF_REFINED),
        decode_head=SMALL_HEAD,
        auxiliary_head=dict(type='BoundaryScoreHead'),
    ),
    'DUPS': dict(
        backbone=dict(type='DUPS', arch=NANO, allocation=_HALF_REFINED, image_hidden='deep'),
        decode_head=dict(SMALL_HEAD, cell_position='sine', normalize='max'),
        auxiliary_head=dict(type='BoundaryScoreHead'),
    ),
    'ARTA, stock head': dict(
        backbone=dict(type='ARTA', arch=NANO, allocation=_HALF_REFINED, coarse_block='swin'),
        neck=dict(type='TokensToMaps', in_channels=NANO['dims']),
        decode_head=dict(
            type='SegformerHead',
            in_channels=list(reversed(NANO['dims'])),
            in_index=[0, 1, 2, 3],
            channels=16,
            num_classes=5,
            norm_cfg=dict(type='BN'),
        ),
    ),
    'AFF': dict(
        backbone=dict(type='AutoFocusFormer', arch=dict(_ONE_BLOCK, cluster_size=4)),
        decode_head=_sparse(mask_tokens='finest', project_same=True),
    ),
    'Swin, point decoder': dict(
        backbone=dict(type='AFFSwin', arch=dict(_ONE_BLOCK, cluster_size=4)),
        decode_head=_sparse(mask_tokens='finest'),
    ),
    'LRFormer': dict(
        backbone=dict(type='LRFormer', arch=_ONE_BLOCK, pooled_size=4),
        decode_head=dict(
            type='LRHead',
            in_channels=[32, 32, 32],
            channels=16,
            num_classes=5,
            num_heads=2,
            pooled_size=4,
        ),
    ),
    'LRFormer+, grid decoder': dict(
        backbone=dict(type='LRFormer', arch=_ONE_BLOCK, pooled_size=4),
        decode_head=dict(_sparse(type='grid'), dim=32),
    ),
    'SegViT': dict(backbone=_vit(out_indices=(0, 1, 2)), decode_head=dict(type='ATMHead', **_ATM)),
    'SegViT, shrunk': dict(
        backbone=_vit(out_indices=(1, 2), shrink_at=2),
        decode_head=dict(type='ShrunkATMHead', grid=(4, 4), **_ATM),
    ),
    'CTS': dict(
        backbone=_vit(
            out_indices=(0, 1, 2), merging=dict(type='TopGroupMerging'), policy_net=_MERGED
        ),
        decode_head=dict(type='ATMHead', self_attention=False, classes='presence', **_ATM),
    ),
    'DToP': dict(
        backbone=_vit(out_indices=(2,), halting=_HALTING),
        decode_head=dict(type='HaltingATMHead', **_ATM),
    ),
    'STEP': dict(
        backbone=_vit(
            out_indices=(2,),
            merging=dict(type='ThresholdMerging', thresholds={'2': 0.5, '4': 0.5}),
            policy_net=dict(type='GroupPolicyNet', head=dict(group_sizes=(2, 4))),
            halting=_HALTING,
        ),
        decode_head=dict(type='HaltingATMHead', **_ATM),
    ),
}


_ALL = dict(type='ThresholdAllocation', thresholds=(-1.0, -1.0, -1.0))


def _arta(**options: Any) -> dict[str, Any]:
    backbone = dict(type='ARTA', arch=NANO, allocation=_ALL)
    return dict(FAMILIES['ARTA'], backbone={**backbone, **options})


def _aff(**options: Any) -> dict[str, Any]:
    return dict(FAMILIES['AFF'], backbone={**FAMILIES['AFF']['backbone'], **options})


#: Other options of ARTA and AutoFocusFormer whose code is code of its own.
VARIANTS: dict[str, dict[str, Any]] = {
    'reconsidering': _arta(allocation=dict(type='ReconsideringAllocation', policy=_HALF_REFINED)),
    'msdeform, kernel': _arta(mixed_block='msdeform', patch_embed='kernel'),
    'global, convnext': _arta(mixed_block='vit', coarse_block='convnextv2'),
    'published order': _arta(tie_order='published', coarse_block='cluster'),
    'no straight-through': _arta(straight_through=False, image_hidden='pixels'),
    'AFF on grids, published': _aff(downsample='grid', tie_order='published'),
    'AFF without blank token': _aff(blank_token=False, expanded_position=False),
    'queries attend to all': dict(
        FAMILIES['ARTA'],
        decode_head=dict(
            SMALL_HEAD, transformer_decoder=dict(SMALL_HEAD['transformer_decoder'], memory='all')
        ),
    ),
}


def family_segmentor(name: str, **options: Any) -> nn.Module:
    """A segmentor of :data:`FAMILIES` or :data:`VARIANTS` with weights made by ``init_weights``.

    Args:
        name: key there.
        options: of the segmentor: ``type``, ``test_cfg``, ``data_preprocessor``, other parts.
    """
    model = _segmentor(options.pop('test_cfg', None), **{**(FAMILIES | VARIANTS)[name], **options})
    model.init_weights()
    return model
