# SegViT's second version with ViT-Tiny at patches of 8 px: trains on a CPU, from random
# initialisation.
_base_ = ['./segvit-v2_vit-ti16_1xb4-2k_camvid-256x256.py']
model = dict(backbone=dict(patch_size=8))
