# AutoFocusFormer-Small that keeps a fifth of the tokens, with Mask2Former on COCO-Stuff 164k.
_base_ = ['./aff-small_mask2former_4xb8-80k_coco-stuff164k-512x512.py']
model = dict(
    backbone=dict(downsample_rate=0.2, init_cfg=dict(checkpoint='pretrain/aff-small-1-5_in1k.pth')),
)
