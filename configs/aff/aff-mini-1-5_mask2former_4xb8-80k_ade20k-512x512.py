# AutoFocusFormer-Mini that keeps a fifth of the tokens, with Mask2Former on ADE20K.
_base_ = ['./aff-mini_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(downsample_rate=0.2, init_cfg=dict(checkpoint='pretrain/aff-mini-1-5_in1k.pth')),
)
