# ARTA-Tiny on ImageNet-1K with all tokens allocated throughout (ARTA 4.3.1).
_base_ = [
    '../../_base_/imagenet/arta-tiny.py',
    '../../_base_/imagenet/in1k_224x224.py',
    '../../_base_/imagenet/adamw_300e.py',
]
train_dataloader = dict(batch_size=64)
model = dict(backbone=dict(allocation=dict(schedule=(1.0, 1.0))))
