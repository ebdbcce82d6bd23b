# LRFormer-L+, pre-trained on ImageNet-22K.
_base_ = ['./lrformer-t-plus.py']
pretrained = 'pretrain/lrformer-l_in22k.pth'
model = dict(
    backbone=dict(arch='large', drop_path_rate=0.6, init_cfg=dict(checkpoint=pretrained)),
    decode_head=dict(in_channels=(640, 480, 192, 96)),
)
