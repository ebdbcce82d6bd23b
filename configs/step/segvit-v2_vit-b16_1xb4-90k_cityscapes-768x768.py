# STEP's baseline (second version of SegViT's head) with ViT-B/16 on Cityscapes.
_base_ = ['../_base_/models/segvit-v2_vit-b16.py', '../_base_/step/cityscapes-768x768.py']
crop_size = (768, 768)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        img_size=768,
    ),
    decode_head=dict(num_classes=19),
    test_cfg=dict(crop_size=crop_size, stride=(512, 512)),
)
