# Mask2Former with Swin-B, pre-trained on ImageNet-22K, on ADE20K in crops of 640x640.
_base_ = [
    '../_base_/models/mask2former_swin-b.py',
    '../_base_/datasets/ade20k_640x640.py',
    '../_base_/schedules/mask2former_160k.py',
    '../_base_/score_runtime.py',
]
crop_size = (640, 640)
model = dict(data_preprocessor=dict(size=crop_size))
train_dataloader = dict(batch_size=2)
