# Mask2Former with Swin-T: the sparse-aware decoder on dense maps, with the standard pixel decoder.
_base_ = ['./mask2former.py']
pretrained = 'https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/swin/swin_tiny_patch4_window7_224_20220317-1cdeb081.pth'
model = dict(
    backbone=dict(
        type='SwinTransformer',
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained),
    ),
    decode_head=dict(
        in_channels=(768, 384, 192, 96),
        cell_position='none',
        pixel_decoder=dict(type='grid'),
    ),
)
