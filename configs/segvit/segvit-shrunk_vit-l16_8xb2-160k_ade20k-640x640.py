# SegViT with ViT-L/16, Shrunk, on ADE20K.
_base_ = [
    '../_base_/models/segvit-shrunk_vit-l16.py',
    '../_base_/datasets/ade20k-ratio_640x640.py',
    '../_base_/schedules/segvit_160k.py',
    '../_base_/score_runtime.py',
]
crop_size = (640, 640)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(img_size=640),
    test_cfg=dict(crop_size=crop_size, stride=(608, 608)),
)
train_dataloader = dict(batch_size=2)
