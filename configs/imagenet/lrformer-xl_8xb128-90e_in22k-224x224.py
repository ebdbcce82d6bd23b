# LRFormer-XL on ImageNet-22K.
_base_ = [
    '../_base_/imagenet/lrformer-t.py',
    '../_base_/imagenet/in22k_224x224.py',
    '../_base_/imagenet/adamw_90e.py',
]
train_dataloader = dict(batch_size=128)
num_classes = 21842
data_preprocessor = dict(num_classes=num_classes)
model = dict(
    backbone=dict(arch='xlarge', drop_path_rate=0.2),
    head=dict(in_channels=768, num_classes=num_classes),
)
