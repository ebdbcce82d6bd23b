# STEP@[8], tau-6899, with ViT-B/16 on Cityscapes.
_base_ = ['./step-6-8-t6899_vit-b16_1xb4-90k_cityscapes-1024x1024.py']
model = dict(backbone=dict(halting=dict(after=(8,))))
