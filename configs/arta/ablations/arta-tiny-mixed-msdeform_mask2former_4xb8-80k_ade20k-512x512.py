# Ablation of ARTA-Tiny: point-based deformable attention in the intermediate rounds (table 5).
# Trained from random initialisation.
_base_ = ['../arta-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(mixed_block='msdeform', init_cfg=None),
)
