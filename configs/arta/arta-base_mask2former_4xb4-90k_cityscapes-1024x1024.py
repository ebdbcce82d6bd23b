# ARTA-Base with the point-based Mask2Former decoder on Cityscapes.
_base_ = ['./arta-tiny_mask2former_4xb4-90k_cityscapes-1024x1024.py']
model = dict(
    backbone=dict(arch='base', init_cfg=dict(checkpoint='pretrain/arta-base_in1k.pth')),
    decode_head=dict(in_channels=(768, 384, 192, 96)),
)
