# AutoFocusFormer-Mini with the patch merging of Swin on regular grids (AFF table 5) on ADE20K.
_base_ = ['../aff-mini_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(
        downsample='grid',
        init_cfg=dict(checkpoint='pretrain/aff-mini-patch-merging_in1k.pth'),
    ),
)
