# Ablation of DUPS-Tiny: pre-trained with every token refined (table 9), on ADE20K.
_base_ = ['../dups-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(init_cfg=dict(checkpoint='pretrain/dups-tiny-full_in1k.pth')),
)
