# Ablation of ARTA-Tiny: ViT blocks in the intermediate rounds (table 5), whose attention grows with
# the square of the tokens: out of memory in the paper. Trained from random initialisation.
_base_ = ['../arta-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(mixed_block='vit', init_cfg=None),
)
