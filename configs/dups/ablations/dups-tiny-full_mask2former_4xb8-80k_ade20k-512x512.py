# Ablation of DUPS-Tiny: every token is always refined, dense grids of all patch sizes (table 4).
# The table does not say what pre-training this had; ARTA 4.3.1 gives the same mIoU and FLOPs for a
# model with all tokens in pre-training too, while table 9 has 50.8 for that and fewer tokens after.
_base_ = ['../dups-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(
        allocation=dict(_delete_=True, type='FullAllocation'),
        init_cfg=dict(checkpoint='pretrain/dups-tiny-full_in1k.pth'),
    ),
)
