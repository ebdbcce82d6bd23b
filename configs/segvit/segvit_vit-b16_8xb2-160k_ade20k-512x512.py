# SegViT with ViT-B/16 on ADE20K.
_base_ = [
    '../_base_/models/segvit_vit-b16.py',
    '../_base_/datasets/ade20k-ratio_512x512.py',
    '../_base_/schedules/segvit_160k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
)
train_dataloader = dict(batch_size=2)
