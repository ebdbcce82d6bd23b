# BiSeNetV2 of stock MMSegmentation with narrower heads (256 and 64 channels, not 1024 and 256), and
# with BN, which CPUs have.
_base_ = ['./segmentor.py']
norm_cfg = dict(type='BN', requires_grad=True)
loss = dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)
fcn = dict(
    type='FCNHead',
    concat_input=False,
    num_classes=11,
    norm_cfg=norm_cfg,
    align_corners=False,
    loss_decode=loss,
)
model = dict(
    backbone=dict(
        type='BiSeNetV2',
        detail_channels=(64, 64, 128),
        semantic_channels=(16, 32, 64, 128),
        semantic_expansion_ratio=6,
        bga_channels=128,
        out_indices=(0, 1, 2, 3, 4),
        norm_cfg=norm_cfg,
        align_corners=False,
        init_cfg=None,
    ),
    decode_head=dict(
        in_channels=128, in_index=0, channels=256, num_convs=1, dropout_ratio=0.1, **fcn
    ),
    auxiliary_head=[
        dict(in_channels=16, in_index=1, channels=16, num_convs=2, **fcn),
        dict(in_channels=32, in_index=2, channels=64, num_convs=2, **fcn),
        dict(in_channels=64, in_index=3, channels=64, num_convs=2, **fcn),
        dict(in_channels=128, in_index=4, channels=64, num_convs=2, **fcn),
    ],
)
