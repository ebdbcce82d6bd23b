# AutoFocusFormer-Small on ImageNet-1K, keeping a quarter of the tokens per stage.
_base_ = [
    '../_base_/imagenet/aff-tiny.py',
    '../_base_/imagenet/in1k_224x224.py',
    '../_base_/imagenet/aff_300e.py',
]
train_dataloader = dict(batch_size=256)
model = dict(
    backbone=dict(arch='small', drop_path_rate=0.3),
    head=dict(in_channels=768),
)
