# ARTA-Tiny with the stock UPerNet head on COCO-Stuff 164k.
_base_ = [
    '../_base_/models/arta-tiny_upernet.py',
    '../_base_/datasets/coco-stuff164k_512x512.py',
    '../_base_/schedules/adamw_80k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=171),
)
