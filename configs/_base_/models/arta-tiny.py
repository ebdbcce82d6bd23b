# ARTA-Tiny with its auxiliary boundary-score loss; a decoder is added by the configs that use it.
norm_cfg = dict(type='SyncBN', requires_grad=True)
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='ARTA',
        arch='tiny',
        allocation=dict(type='ThresholdAllocation', thresholds=(0.005, 0.01, 0.02)),
        drop_path_rate=0.3,
    ),
    auxiliary_head=dict(type='BoundaryScoreHead', loss_weight=10.0),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
custom_hooks = [dict(type='TokenStatisticsHook'), dict(type='TokenPictureHook')]
