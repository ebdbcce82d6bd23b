# LRFormer-S on ImageNet-1K for 100 epochs: no convolution in the feed-forward networks (table 9).
_base_ = [
    '../../_base_/imagenet/lrformer-t.py',
    '../../_base_/imagenet/in1k_224x224.py',
    '../../_base_/imagenet/adamw_100e.py',
]
train_dataloader = dict(batch_size=128)
model = dict(
    backbone=dict(arch='small', drop_path_rate=0.2, mlp_conv=False),
    head=dict(in_channels=512),
)
