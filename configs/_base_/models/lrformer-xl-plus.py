# LRFormer-XL+, pre-trained on ImageNet-22K.
_base_ = ['./lrformer-t-plus.py']
pretrained = 'pretrain/lrformer-xl_in22k.pth'
model = dict(
    backbone=dict(arch='xlarge', drop_path_rate=0.4, init_cfg=dict(checkpoint=pretrained)),
    decode_head=dict(in_channels=(768, 640, 256, 128)),
)
