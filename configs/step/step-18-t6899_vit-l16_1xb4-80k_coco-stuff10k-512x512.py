# STEP@[18], tau-6899, with ViT-L/16 on COCO-Stuff 10k.
_base_ = ['./step-8-16-t6899_vit-l16_1xb4-80k_coco-stuff10k-512x512.py']
model = dict(backbone=dict(halting=dict(after=(18,))))
