# LRFormer-XL on ImageNet-1K, from its weights of ImageNet-22K.
_base_ = [
    '../_base_/imagenet/lrformer-t.py',
    '../_base_/imagenet/in1k_224x224.py',
    '../_base_/imagenet/adamw_30e.py',
]
train_dataloader = dict(batch_size=64)
# what the config of ImageNet-22K leaves
pretrained = 'work_dirs/lrformer-xl_8xb128-90e_in22k-224x224/epoch_90.pth'
model = dict(
    backbone=dict(
        arch='xlarge',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.'),
    ),
    head=dict(in_channels=768),
    train_cfg=dict(augments=None),
)
