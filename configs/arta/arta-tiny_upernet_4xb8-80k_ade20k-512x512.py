# ARTA-Tiny with the stock UPerNet head on ADE20K.
_base_ = [
    '../_base_/models/arta-tiny_upernet.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/adamw_80k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
)
