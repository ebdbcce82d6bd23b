# A decoder of 128 channels (table 11); LRFormer-S has 384.
_base_ = [
    '../../_base_/models/lrformer-s.py',
    '../../_base_/datasets/ade20k-ratio_512x512.py',
    '../../_base_/schedules/lrformer_80k.py',
    '../../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(channels=128),
)
