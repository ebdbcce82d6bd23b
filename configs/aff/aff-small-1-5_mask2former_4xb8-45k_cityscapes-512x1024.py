# AutoFocusFormer-Small that keeps a fifth of the tokens, with Mask2Former on Cityscapes.
_base_ = ['./aff-small_mask2former_4xb8-45k_cityscapes-512x1024.py']
model = dict(
    backbone=dict(downsample_rate=0.2, init_cfg=dict(checkpoint='pretrain/aff-small-1-5_in1k.pth')),
)
