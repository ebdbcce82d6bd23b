# Mask2Former with Swin-S.
_base_ = ['./mask2former_swin-t.py']
pretrained = 'https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/swin/swin_small_patch4_window7_224_20220317-7ba6d6dd.pth'
model = dict(
    backbone=dict(depths=[2, 2, 18, 2], init_cfg=dict(checkpoint=pretrained)),
)
