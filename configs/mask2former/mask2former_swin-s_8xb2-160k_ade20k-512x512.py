# Mask2Former with Swin-S on ADE20K.
_base_ = [
    '../_base_/models/mask2former_swin-s.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/mask2former_160k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 512)
model = dict(data_preprocessor=dict(size=crop_size))
train_dataloader = dict(batch_size=2)
