# Ablation of ARTA-nano, from random initialisation: the same share of the tokens of every image,
# those with the highest scores; about as many as ARTA-nano has on average.
_base_ = ['../arta-nano_mask2former_1xb4-2k_camvid-256x256.py']
model = dict(
    backbone=dict(
        allocation=dict(_delete_=True, type='FixedRatioAllocation', ratios=(0.8, 0.8, 0.8))
    )
)
