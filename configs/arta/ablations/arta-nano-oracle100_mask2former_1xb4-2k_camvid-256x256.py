# Ablation of ARTA-nano, from random initialisation: true boundaries choose the tokens of 100 % of
# the training batches (4.3.3).
_base_ = ['../arta-nano_mask2former_1xb4-2k_camvid-256x256.py']
model = dict(
    type='OracleEncoderDecoder',
    backbone=dict(
        allocation=dict(
            _delete_=True,
            type='OracleAllocation',
            rate=1.0,
            policy=dict(type='ThresholdAllocation', thresholds=(0.01, 0.02, 0.04)),
        ),
    ),
)
