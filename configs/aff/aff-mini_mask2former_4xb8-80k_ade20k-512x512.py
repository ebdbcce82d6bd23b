# AutoFocusFormer-Mini with the point-based Mask2Former decoder on ADE20K.
_base_ = [
    '../_base_/models/aff-mini_mask2former.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/aff_80k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
)
