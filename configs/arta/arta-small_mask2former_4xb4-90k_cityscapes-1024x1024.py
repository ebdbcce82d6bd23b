# ARTA-Small with the point-based Mask2Former decoder on Cityscapes.
_base_ = ['./arta-tiny_mask2former_4xb4-90k_cityscapes-1024x1024.py']
model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint='pretrain/arta-small_in1k.pth')),
)
