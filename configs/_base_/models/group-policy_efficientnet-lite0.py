# Policy network of CTS: EfficientNet-Lite0 that scores groups of 2x2 patches.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
)
model = dict(
    type='GroupPolicySegmentor',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='EfficientNetLite0',
        # timm's efficientnet_lite0, saved as a state dict
        init_cfg=dict(type='Pretrained', checkpoint='pretrain/efficientnet_lite0_ra-37913777.pth'),
    ),
    decode_head=dict(type='GroupPolicyHead', group_sizes=(2,), num_classes=150),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
