# SegViT with ViT-L/16.
_base_ = ['./segvit_vit-b16.py']
model = dict(
    backbone=dict(
        arch='large',
        out_indices=(7, 15, 23),
        drop_path_rate=0.3,
        init_cfg=dict(
            type='Pretrained',
            # the weights of stock Segmenter; positions are resized on loading
            checkpoint='https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/segmenter/vit_large_p16_384_20220308-d4efb41d.pth',
        ),
    ),
    decode_head=dict(in_channels=1024, channels=512, num_heads=16),
)
