# Policy network of CTS: EfficientNet-Lite0 that scores groups of 2x2 patches.
_base_ = ['./segmentor.py']
data_preprocessor = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
model = dict(
    type='GroupPolicySegmentor',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='EfficientNetLite0',
        # timm's efficientnet_lite0, saved as a state dict
        init_cfg=dict(type='Pretrained', checkpoint='pretrain/efficientnet_lite0_ra-37913777.pth'),
    ),
    decode_head=dict(type='GroupPolicyHead', group_sizes=(2,), num_classes=150),
)
