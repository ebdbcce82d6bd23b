# DToP with ViT-L/16 on Cityscapes.
_base_ = ['../_base_/models/dtop_vit-l16.py', '../_base_/step/cityscapes-1024x1024.py']
crop_size = (1024, 1024)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        img_size=1024,
        halting=dict(head=dict(num_classes=19)),
    ),
    decode_head=dict(num_classes=19),
    test_cfg=dict(crop_size=crop_size, stride=(682, 682)),
)
