# Ablation of DUPS-Tiny: true boundaries choose the tokens of 100 % of the training batches (table
# 7).
_base_ = ['../dups-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    type='OracleEncoderDecoder',
    backbone=dict(
        allocation=dict(
            _delete_=True,
            type='OracleAllocation',
            rate=1.0,
            policy=dict(
                type='BatchRatioAllocation', thresholds=(0.01, 0.02, 0.04), caps=(0.85, 0.7, 0.6)
            ),
        ),
    ),
)
