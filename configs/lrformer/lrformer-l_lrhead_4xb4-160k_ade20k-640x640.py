# LRFormer-L on ADE20K at 640 px, as in table 3.
_base_ = [
    '../_base_/models/lrformer-l.py',
    '../_base_/datasets/ade20k-ratio_640x640.py',
    '../_base_/schedules/lrformer_160k.py',
    '../_base_/default_runtime.py',
]
crop_size = (640, 640)
model = dict(
    data_preprocessor=dict(size=crop_size),
)
