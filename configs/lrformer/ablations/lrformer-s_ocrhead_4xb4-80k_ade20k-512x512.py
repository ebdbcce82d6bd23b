# LRFormer-S with the stock OCR head, on the last three stages' maps at stride 8 (table 10).
_base_ = [
    '../../_base_/models/lrformer-s.py',
    '../../_base_/datasets/ade20k-ratio_512x512.py',
    '../../_base_/schedules/lrformer_80k.py',
    '../../_base_/default_runtime.py',
]
crop_size = (512, 512)
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=crop_size),
    type='CascadeEncoderDecoder',
    num_stages=2,
    decode_head=[
        dict(
            type='FCNHead',
            in_channels=[128, 320, 512],
            in_index=[1, 2, 3],
            input_transform='resize_concat',
            channels=256,
            kernel_size=1,
            num_convs=1,
            concat_input=False,
            dropout_ratio=-1,
            num_classes=150,
            norm_cfg=norm_cfg,
            align_corners=False,
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
        ),
        dict(
            type='OCRHead',
            in_channels=[128, 320, 512],
            in_index=[1, 2, 3],
            input_transform='resize_concat',
            channels=512,
            ocr_channels=256,
            dropout_ratio=-1,
            num_classes=150,
            norm_cfg=norm_cfg,
            align_corners=False,
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        ),
    ],
)
