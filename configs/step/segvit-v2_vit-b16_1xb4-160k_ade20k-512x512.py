# STEP's baseline (second version of SegViT's head) with ViT-B/16 on ADE20K.
_base_ = ['../_base_/models/segvit-v2_vit-b16.py', '../_base_/step/ade20k-512x512.py']
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
)
