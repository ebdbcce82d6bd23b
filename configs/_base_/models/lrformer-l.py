# LRFormer-L.
_base_ = ['./lrformer-t.py']
pretrained = 'pretrain/lrformer-l_in1k.pth'
model = dict(
    backbone=dict(arch='large', drop_path_rate=0.6, init_cfg=dict(checkpoint=pretrained)),
    decode_head=dict(in_channels=[192, 480, 640], channels=640),
)
