# STEP@[18], tau-6899, with ViT-L/16 on Cityscapes.
_base_ = ['./step-8-16-t6899_vit-l16_1xb4-90k_cityscapes-768x768.py']
model = dict(backbone=dict(halting=dict(after=(18,))))
