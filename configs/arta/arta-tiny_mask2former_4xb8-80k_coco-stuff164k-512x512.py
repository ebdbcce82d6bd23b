# ARTA-Tiny with the point-based Mask2Former decoder on COCO-Stuff 164k.
_base_ = [
    '../_base_/models/arta-tiny_mask2former.py',
    '../_base_/datasets/coco-stuff164k_512x512.py',
    '../_base_/schedules/adamw_80k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=171),
)
