# SegViT's second version with ViT-Tiny/16, from random initialisation, for 11 classes.
_base_ = ['./segvit-v2_vit-b16.py']
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=192, num_layers=12, num_heads=3),
        drop_path_rate=0.0,
        init_cfg=None,
    ),
    decode_head=dict(in_channels=192, channels=96, num_heads=3, num_classes=11),
)
