# STEP's baseline (second version of SegViT's head) with ViT-L/16 on COCO-Stuff 10k.
_base_ = ['../_base_/models/segvit-v2_vit-l16.py', '../_base_/step/coco-stuff10k-512x512.py']
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=171),
)
