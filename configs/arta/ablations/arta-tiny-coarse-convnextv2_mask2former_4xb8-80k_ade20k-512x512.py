# Ablation of ARTA-Tiny: ConvNeXt V2 blocks in the initial and final rounds (table 5). Trained
# from random initialisation.
_base_ = ['../arta-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(coarse_block='convnextv2', init_cfg=None),
)
