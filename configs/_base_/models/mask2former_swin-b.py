# Mask2Former with Swin-B, pre-trained on ImageNet-22K.
_base_ = ['./mask2former_swin-t.py']
pretrained = 'https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/swin/swin_base_patch4_window12_384_22k_20220317-e5c09f74.pth'
model = dict(
    backbone=dict(
        pretrain_img_size=384,
        embed_dims=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=12,
        init_cfg=dict(checkpoint=pretrained),
    ),
    decode_head=dict(in_channels=(1024, 512, 256, 128)),
)
