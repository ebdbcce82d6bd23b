# AutoFocusFormer-Tiny with the point-based Mask2Former decoder on ADE20K.
_base_ = ['./aff-mini_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(
        arch='tiny',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='pretrain/aff-tiny_in1k.pth'),
    ),
    decode_head=dict(in_channels=(512, 256, 128, 64)),
)
