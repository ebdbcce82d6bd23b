# Ablation of ARTA-nano, from random initialisation: tokens are refined at random, about as many as
# the scores of ARTA-nano choose, in training and in tests.
_base_ = ['../arta-nano_mask2former_1xb4-2k_camvid-256x256.py']
model = dict(
    backbone=dict(
        allocation=dict(_delete_=True, type='RandomAllocation', schedule=(0.8, 0.8), inference=0.8)
    )
)
