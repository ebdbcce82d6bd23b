# LRFormer-L on ADE20K at 640 px, pre-trained on ImageNet-22K.
_base_ = ['./lrformer-l_lrhead_4xb4-160k_ade20k-640x640.py']
pretrained = 'pretrain/lrformer-l_in22k.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))
