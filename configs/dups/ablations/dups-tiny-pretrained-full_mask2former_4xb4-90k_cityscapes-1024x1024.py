# Ablation of DUPS-Tiny: pre-trained with every token refined (table 9), on Cityscapes.
_base_ = ['../dups-tiny_mask2former_4xb4-90k_cityscapes-1024x1024.py']
model = dict(
    backbone=dict(init_cfg=dict(checkpoint='pretrain/dups-tiny-full_in1k.pth')),
)
