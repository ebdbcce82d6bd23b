# DUPS-Tiny on ImageNet-1K with all tokens allocated throughout (DUPS table 9).
_base_ = [
    '../../_base_/imagenet/arta-tiny.py',
    '../../_base_/imagenet/in1k_224x224.py',
    '../../_base_/imagenet/adamw_300e.py',
]
train_dataloader = dict(batch_size=64)
model = dict(backbone=dict(type='DUPS', allocation=dict(schedule=(1.0, 1.0))))
