# ARTA-Base with the point-based Mask2Former decoder on COCO-Stuff 164k.
_base_ = ['./arta-tiny_mask2former_4xb8-80k_coco-stuff164k-512x512.py']
model = dict(
    backbone=dict(arch='base', init_cfg=dict(checkpoint='pretrain/arta-base_in1k.pth')),
    decode_head=dict(in_channels=(768, 384, 192, 96)),
)
