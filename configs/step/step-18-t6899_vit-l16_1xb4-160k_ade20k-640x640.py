# STEP@[18], tau-6899, with ViT-L/16 on ADE20K.
_base_ = ['./step-8-16-t6899_vit-l16_1xb4-160k_ade20k-640x640.py']
model = dict(backbone=dict(halting=dict(after=(18,))))
