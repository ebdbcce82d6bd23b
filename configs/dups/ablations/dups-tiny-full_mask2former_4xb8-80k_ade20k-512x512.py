# Ablation of DUPS-Tiny: every token is always refined, dense grids of all patch sizes (table 4).
_base_ = ['../dups-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(allocation=dict(_delete_=True, type='FullAllocation')),
)
