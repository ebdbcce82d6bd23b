# A small Swin with a small Mask2Former decoder that trains on a CPU, from random initialisation.
_base_ = [
    '../_base_/models/mask2former_swin-t.py',
    '../_base_/datasets/camvid_256x256.py',
    '../_base_/schedules/adamw_2k.py',
    '../_base_/score_runtime.py',
]
crop_size = (256, 256)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        embed_dims=32,
        depths=[2, 2, 4, 2],
        num_heads=[1, 2, 4, 8],
        mlp_ratio=2,
        drop_path_rate=0.0,
        init_cfg=None,
    ),
    decode_head=dict(
        in_channels=(256, 128, 64, 32),
        num_classes=11,
        dim=128,
        num_queries=40,
        pixel_decoder=dict(num_layers=3, num_heads=4, hidden=256),
        transformer_decoder=dict(num_layers=6, num_heads=4, hidden=512),
    ),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(128, 128)),
)
