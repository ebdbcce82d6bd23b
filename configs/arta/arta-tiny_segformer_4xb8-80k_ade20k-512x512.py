# ARTA-Tiny with the stock SegFormer head on ADE20K.
_base_ = [
    '../_base_/models/arta-tiny_segformer.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/adamw_80k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
)
