# Stock BiSeNetV2, a convolutional network, with narrower heads, from random initialisation: what
# the small models here are compared with.
_base_ = [
    '../_base_/models/bisenetv2.py',
    '../_base_/datasets/camvid_256x256.py',
    '../_base_/schedules/adamw_2k.py',
    '../_base_/default_runtime.py',
]
crop_size = (256, 256)
model = dict(data_preprocessor=dict(size=crop_size))
