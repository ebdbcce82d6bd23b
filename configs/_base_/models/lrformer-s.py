# LRFormer-S.
_base_ = ['./lrformer-t.py']
pretrained = 'pretrain/lrformer-s_in1k.pth'
model = dict(
    backbone=dict(arch='small', drop_path_rate=0.2, init_cfg=dict(checkpoint=pretrained)),
    decode_head=dict(in_channels=[128, 320, 512], channels=384),
)
