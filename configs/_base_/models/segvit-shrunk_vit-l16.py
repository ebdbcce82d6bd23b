# SegViT with ViT-L/16, Shrunk: from block 8 on a quarter of the tokens.
_base_ = ['./segvit_vit-l16.py']
model = dict(
    backbone=dict(out_indices=(7, 23), shrink_at=8),
    decode_head=dict(
        _delete_=True,
        type='ShrunkATMHead',
        in_channels=1024,
        channels=512,
        num_classes=150,
        grid=(40, 40),
        num_layers=3,
        num_heads=16,
    ),
)
