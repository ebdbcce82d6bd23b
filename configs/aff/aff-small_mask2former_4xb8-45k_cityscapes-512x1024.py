# AutoFocusFormer-Small with the point-based Mask2Former decoder on Cityscapes.
_base_ = ['./aff-mini_mask2former_4xb8-45k_cityscapes-512x1024.py']
model = dict(
    backbone=dict(
        arch='small',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='pretrain/aff-small_in1k.pth'),
    ),
    decode_head=dict(in_channels=(768, 384, 192, 96)),
)
