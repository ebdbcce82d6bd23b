# SegFormer-B2 with its decoder replaced by that of LRFormer, on ADE20K.
_base_ = [
    '../_base_/models/mit-b2_lrhead.py',
    '../_base_/datasets/ade20k-ratio_512x512.py',
    '../_base_/schedules/lrformer_80k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
)
