# Ablation of DUPS-Tiny: the batch's share in training, a fixed share at inference (table 4).
_base_ = ['../dups-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(
        allocation=dict(
            _delete_=True,
            train=dict(
                type='BatchRatioAllocation', thresholds=(0.01, 0.02, 0.04), caps=(0.85, 0.7, 0.6)
            ),
            test=dict(type='FixedRatioAllocation', ratios=(0.85, 0.7, 0.6)),
        ),
    ),
)
