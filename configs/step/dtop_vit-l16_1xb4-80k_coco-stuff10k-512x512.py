# DToP with ViT-L/16 on COCO-Stuff 10k.
_base_ = ['../_base_/models/dtop_vit-l16.py', '../_base_/step/coco-stuff10k-512x512.py']
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        halting=dict(head=dict(num_classes=171), policy=dict(threshold=0.95)),
    ),
    decode_head=dict(num_classes=171),
)
