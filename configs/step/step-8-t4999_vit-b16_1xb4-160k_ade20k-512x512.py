# STEP@[8], tau-4999, with ViT-B/16 on ADE20K.
_base_ = ['./step-8-t6899_vit-b16_1xb4-160k_ade20k-512x512.py']
model = dict(backbone=dict(merging=dict(thresholds={'2': 0.4, '4': 0.9})))
