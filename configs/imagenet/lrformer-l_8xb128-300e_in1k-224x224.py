# LRFormer-L on ImageNet-1K.
_base_ = [
    '../_base_/imagenet/lrformer-t.py',
    '../_base_/imagenet/in1k_224x224.py',
    '../_base_/imagenet/adamw_300e.py',
]
train_dataloader = dict(batch_size=128)
model = dict(
    backbone=dict(arch='large', drop_path_rate=0.5),
    head=dict(in_channels=640),
)
