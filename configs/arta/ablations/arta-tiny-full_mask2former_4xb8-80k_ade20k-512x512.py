# Ablation of ARTA-Tiny: every token is always refined, dense grids of all patch sizes, also during
# pre-training (section 4.3.1).
_base_ = ['../arta-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(
        allocation=dict(_delete_=True, type='FullAllocation'),
        init_cfg=dict(checkpoint='pretrain/arta-tiny-full_in1k.pth'),
    ),
)
