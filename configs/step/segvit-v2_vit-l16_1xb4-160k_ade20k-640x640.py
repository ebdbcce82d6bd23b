# STEP's baseline (second version of SegViT's head) with ViT-L/16 on ADE20K.
_base_ = ['../_base_/models/segvit-v2_vit-l16.py', '../_base_/step/ade20k-640x640.py']
crop_size = (640, 640)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        img_size=640,
    ),
    test_cfg=dict(crop_size=crop_size, stride=(608, 608)),
)
