# LRFormer-T with attention at 7x7 cells (LRFormer 3.4).
_base_ = ['./classifier.py']
model = dict(
    backbone=dict(
        type='LRFormer', arch='tiny', pooled_size=7, drop_path_rate=0.1, out_indices=(3,)
    ),
    head=dict(in_channels=384),
)
