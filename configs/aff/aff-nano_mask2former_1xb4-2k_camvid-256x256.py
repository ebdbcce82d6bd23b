# A small AutoFocusFormer with a small Mask2Former decoder that trains on a CPU, from random
# initialisation.
_base_ = [
    '../_base_/models/aff-mini_mask2former.py',
    '../_base_/datasets/camvid_256x256.py',
    '../_base_/schedules/adamw_2k.py',
    '../_base_/score_runtime.py',
]
crop_size = (256, 256)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        arch=dict(
            _delete_=True,
            dims=(32, 64, 128, 160),
            depths=(1, 2, 4, 2),
            num_heads=(2, 4, 4, 5),
            mlp_ratio=2.0,
        ),
        init_cfg=None,
    ),
    decode_head=dict(
        in_channels=(160, 128, 64, 32),
        num_classes=11,
        dim=128,
        num_queries=40,
        # Offsets count each level's own patches, as in Deformable DETR.
        pixel_decoder=dict(num_layers=3, num_heads=4, hidden=256, offset_units=(8, 4, 2)),
        transformer_decoder=dict(num_layers=6, num_heads=4, hidden=512),
    ),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(128, 128)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
