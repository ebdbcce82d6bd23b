# DToP with ViT-L/16 on COCO-Stuff 10k.
_base_ = [
    '../_base_/models/dtop_vit-l16.py',
    '../_base_/datasets/coco-stuff10k-ratio_512x512.py',
    '../_base_/schedules/step_80k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        halting=dict(head=dict(num_classes=171), policy=dict(threshold=0.95)),
    ),
    decode_head=dict(num_classes=171),
)
tta_model = dict(type='ScoreTTAModel')
