# DUPS-Tiny with the point-based Mask2Former decoder on Cityscapes.
_base_ = [
    '../_base_/models/dups-tiny_mask2former.py',
    '../_base_/datasets/cityscapes_1024x1024.py',
    '../_base_/schedules/adamw_90k.py',
    '../_base_/score_runtime.py',
]
crop_size = (1024, 1024)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        allocation=dict(thresholds=(0.005, 0.01, 0.02), caps=(0.5, 0.7, 0.65)),
    ),
    decode_head=dict(num_classes=19),
    test_cfg=dict(_delete_=True, mode='slide', crop_size=crop_size, stride=(512, 512)),
)
