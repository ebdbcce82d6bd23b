# Ablation of DUPS-Tiny: the same share of tokens in every image, in training and at inference
# (table 4).
_base_ = ['../dups-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(
        allocation=dict(_delete_=True, type='FixedRatioAllocation', ratios=(0.85, 0.7, 0.6)),
    ),
)
