# Stock SegFormer-B0 from random initialisation: what the small models here are compared with.
_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/camvid_256x256.py',
    '../_base_/schedules/adamw_2k.py',
    '../_base_/default_runtime.py',
]
crop_size = (256, 256)
data_preprocessor = dict(size=crop_size)
model = dict(data_preprocessor=data_preprocessor, decode_head=dict(num_classes=11))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
