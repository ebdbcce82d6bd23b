# STEP@[8], tau-4999, with ViT-B/16 on Cityscapes.
_base_ = ['./step-8-t6899_vit-b16_1xb4-90k_cityscapes-768x768.py']
model = dict(backbone=dict(merging=dict(thresholds={'2': 0.4, '4': 0.9})))
