# Ablation of ARTA-Tiny: new tokens get no image feature (4.3.4). Trained from random
# initialisation.
_base_ = ['../arta-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(use_image=False, init_cfg=None),
)
