# LRFormer-T: the backbone of LRFormer-T+ with the low-resolution decoder, LRHead.
_base_ = ['./lrformer-t-plus.py']
model = dict(
    backbone=dict(drop_path_rate=0.1),
    decode_head=dict(
        _delete_=True,
        type='LRHead',
        in_channels=[96, 240, 384],
        in_index=[1, 2, 3],
        channels=256,
        pooled_size=32,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg={{_base_.norm_cfg}},
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
