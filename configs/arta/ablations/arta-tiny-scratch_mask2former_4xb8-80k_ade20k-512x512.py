# Ablation of ARTA-Tiny: the baseline of tables 5 and 7. Trained from random initialisation.
_base_ = ['../arta-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(init_cfg=None),
)
