# Ablation of DUPS-Tiny: the baseline of table 5. Trained from random initialisation.
_base_ = ['../dups-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(init_cfg=None),
)
