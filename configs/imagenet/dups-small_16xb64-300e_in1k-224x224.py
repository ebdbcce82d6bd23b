# DUPS-Small on ImageNet-1K.
_base_ = [
    '../_base_/imagenet/arta-tiny.py',
    '../_base_/imagenet/in1k_224x224.py',
    '../_base_/imagenet/adamw_300e.py',
]
train_dataloader = dict(batch_size=64)
model = dict(backbone=dict(type='DUPS', arch='small', drop_path_rate=0.3))
