# Pooled size 32 on Cityscapes (section 4.4).
_base_ = ['../lrformer-l_lrhead_4xb2-160k_cityscapes-1024x1024.py']
model = dict(backbone=dict(pooled_size=32, pool_up=False))
