# A small DUPS with a small Mask2Former decoder that trains on a CPU, from random initialisation.
_base_ = ['../arta/arta-nano_mask2former_1xb4-2k_camvid-256x256.py']
model = dict(
    backbone=dict(
        type='DUPS',
        allocation=dict(
            _delete_=True,
            type='BatchRatioAllocation',
            thresholds=(0.01, 0.02, 0.04),
            caps=(0.85, 0.7, 0.6),
            floor=0.1,
        ),
    ),
)
