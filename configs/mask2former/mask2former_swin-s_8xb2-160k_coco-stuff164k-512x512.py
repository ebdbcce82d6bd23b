# Mask2Former with Swin-S on COCO-Stuff 164k.
_base_ = ['./mask2former_swin-t_8xb2-160k_coco-stuff164k-512x512.py']
pretrained = 'https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/swin/swin_small_patch4_window7_224_20220317-7ba6d6dd.pth'
model = dict(
    backbone=dict(depths=[2, 2, 18, 2], init_cfg=dict(checkpoint=pretrained)),
)
