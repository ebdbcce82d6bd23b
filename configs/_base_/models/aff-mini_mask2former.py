# AutoFocusFormer-Mini with the point-based Mask2Former decoder (AFF 4.1).
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
        type='AutoFocusFormer',
        arch='mini',
        downsample_rate=0.25,
        neighborhood_size=48,
        alpha=4.0,
        drop_path_rate=0.0,
    ),
    decode_head=dict(
        type='SparseMask2FormerHead',
        in_channels=(384, 256, 128, 32),
        num_classes=150,
        dim=256,
        num_queries=100,
        cell_position='none',
        pixel_decoder=dict(
            type='point',
            num_layers=6,
            num_heads=8,
            hidden=1024,
            mask_tokens='finest',
            project_same=True,
            floor=0.0,
            eps=1e-11,
        ),
        transformer_decoder=dict(num_layers=9, num_heads=8, hidden=2048),
        criterion=dict(class_weight=2.0, mask_weight=5.0, dice_weight=5.0, no_object_weight=0.1),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
