# AutoFocusFormer-Small with the point-based Mask2Former decoder on COCO-Stuff 164k.
_base_ = ['./aff-mini_mask2former_4xb8-80k_coco-stuff164k-512x512.py']
model = dict(
    backbone=dict(arch='small', drop_path_rate=0.3),
    decode_head=dict(in_channels=(768, 384, 192, 96)),
)
