# DToP with ViT-B/16 on Cityscapes.
_base_ = ['../_base_/models/dtop_vit-b16.py', '../_base_/step/cityscapes-512x512.py']
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        halting=dict(head=dict(num_classes=19)),
    ),
    decode_head=dict(num_classes=19),
)
