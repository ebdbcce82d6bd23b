# LRFormer-B.
_base_ = ['./lrformer-t.py']
pretrained = 'pretrain/lrformer-b_in1k.pth'
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.4, init_cfg=dict(checkpoint=pretrained)),
    decode_head=dict(in_channels=[160, 400, 512], channels=512),
)
