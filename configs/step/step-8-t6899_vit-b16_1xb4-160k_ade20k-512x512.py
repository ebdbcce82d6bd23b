# STEP@[8], tau-6899, with ViT-B/16 on ADE20K.
_base_ = ['./step-6-8-t6899_vit-b16_1xb4-160k_ade20k-512x512.py']
model = dict(backbone=dict(halting=dict(after=(8,))))
