# ARTA-Small with the point-based Mask2Former decoder on ADE20K.
_base_ = ['./arta-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint='pretrain/arta-small_in1k.pth')),
)
