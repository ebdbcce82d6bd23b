# STEP@[18], tau-4999, with ViT-L/16 on COCO-Stuff 10k.
_base_ = ['./step-18-t6899_vit-l16_1xb4-80k_coco-stuff10k-512x512.py']
model = dict(backbone=dict(merging=dict(thresholds={'2': 0.4, '4': 0.9})))
