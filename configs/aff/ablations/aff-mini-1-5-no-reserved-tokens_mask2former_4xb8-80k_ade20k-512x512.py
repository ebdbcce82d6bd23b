# AutoFocusFormer-Mini-1/5 without reserved tokens (AFF table 5) on ADE20K.
_base_ = ['../aff-mini-1-5_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(
        reserve=False,
        init_cfg=dict(checkpoint='pretrain/aff-mini-1-5-no-reserved-tokens_in1k.pth'),
    ),
)
