# SegViT's second version with ViT-Tiny/16: trains on a CPU, from random initialisation.
_base_ = [
    '../_base_/models/segvit-v2_vit-ti16.py',
    '../_base_/datasets/camvid_256x256.py',
    '../_base_/schedules/adamw_2k.py',
    '../_base_/score_runtime.py',
]
crop_size = (256, 256)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(img_size=crop_size),
    test_cfg=dict(crop_size=crop_size, stride=(128, 128)),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
