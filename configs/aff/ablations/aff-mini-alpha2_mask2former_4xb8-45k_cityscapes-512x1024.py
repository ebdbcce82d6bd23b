# AutoFocusFormer-Mini with weight 2 of the importance scores (AFF table 6) on Cityscapes.
_base_ = ['../aff-mini_mask2former_4xb8-45k_cityscapes-512x1024.py']
model = dict(
    backbone=dict(alpha=2.0),
)
