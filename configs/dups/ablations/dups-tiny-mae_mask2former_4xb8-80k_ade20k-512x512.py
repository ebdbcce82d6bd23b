# Ablation of DUPS-Tiny: boundary scores learn from absolute instead of squared errors (table 10).
_base_ = ['../dups-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    auxiliary_head=dict(loss='mae'),
)
