# STEP@[18], tau-4999, with ViT-L/16 on ADE20K.
_base_ = ['./step-18-t6899_vit-l16_1xb4-160k_ade20k-640x640.py']
model = dict(backbone=dict(merging=dict(thresholds={'2': 0.4, '4': 0.9})))
