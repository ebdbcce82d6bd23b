# A small ARTA that trains on a CPU, from random initialisation.
_base_ = [
    '../_base_/models/arta-tiny_segformer.py',
    '../_base_/datasets/camvid_256x256.py',
    '../_base_/schedules/adamw_2k.py',
    '../_base_/default_runtime.py',
]
crop_size = (256, 256)
dims = (128, 96, 64, 48)
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        arch=dict(
            _delete_=True,
            dims=dims,
            num_heads=(4, 3, 4, 3),
            allocation_depths=(1, 1, 1),
            refinement_depths=(2, 2, 3, 1),
            mlp_ratio=3.0,
        ),
        drop_path_rate=0.0,
    ),
    neck=dict(in_channels=dims),
    decode_head=dict(in_channels=[48, 64, 96, 128], channels=128, num_classes=11, norm_cfg=norm_cfg),
)
randomness = dict(seed=0)
