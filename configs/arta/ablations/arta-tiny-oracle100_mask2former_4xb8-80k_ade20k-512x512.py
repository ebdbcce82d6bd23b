# Ablation of ARTA-Tiny: true boundaries choose the tokens of 100 % of the training batches (4.3.3).
_base_ = ['../arta-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    type='OracleEncoderDecoder',
    backbone=dict(
        allocation=dict(
            _delete_=True,
            type='OracleAllocation',
            rate=1.0,
            policy=dict(type='ThresholdAllocation', thresholds=(0.005, 0.01, 0.02)),
        ),
    ),
)
