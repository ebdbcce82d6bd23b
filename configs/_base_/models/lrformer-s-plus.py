# LRFormer-S+.
_base_ = ['./lrformer-t-plus.py']
pretrained = 'pretrain/lrformer-s_in1k.pth'
model = dict(
    backbone=dict(arch='small', drop_path_rate=0.3, init_cfg=dict(checkpoint=pretrained)),
    decode_head=dict(in_channels=(512, 320, 128, 64)),
)
