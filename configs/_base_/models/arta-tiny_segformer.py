# ARTA-Tiny with the stock SegFormer head on dense maps.
_base_ = ['./arta-tiny_mask2former.py']
model = dict(
    neck=dict(type='TokensToMaps', in_channels=(512, 256, 128, 64)),
    decode_head=dict(
        _delete_=True,
        type='SegformerHead',
        in_channels=[64, 128, 256, 512],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg={{_base_.norm_cfg}},
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
