# AutoFocusFormer-Mini on ImageNet-1K with (x, y) as relative position alone (AFF table 5).
_base_ = [
    '../../_base_/imagenet/aff-mini.py',
    '../../_base_/imagenet/in1k_224x224.py',
    '../../_base_/imagenet/aff_300e.py',
]
train_dataloader = dict(batch_size=256)
model = dict(backbone=dict(downsample_rate=0.2, expanded_position=False))
