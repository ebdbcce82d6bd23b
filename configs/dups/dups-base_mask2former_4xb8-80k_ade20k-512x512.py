# DUPS-Base with the point-based Mask2Former decoder on ADE20K.
_base_ = ['./dups-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(arch='base', init_cfg=dict(checkpoint='pretrain/dups-base_in1k.pth')),
    decode_head=dict(in_channels=(768, 384, 192, 96)),
)
