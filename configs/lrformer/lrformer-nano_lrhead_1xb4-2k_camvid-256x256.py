# LRFormer-T at half its width, with half its head: trains on a CPU, from random initialisation.
_base_ = [
    '../_base_/models/lrformer-t.py',
    '../_base_/datasets/camvid_256x256.py',
    '../_base_/schedules/adamw_2k.py',
    '../_base_/default_runtime.py',
]
crop_size = (256, 256)
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        arch=dict(
            _delete_=True,
            dims=(24, 48, 120, 192),
            depths=(2, 2, 6, 3),
            num_heads=(1, 2, 5, 8),
        ),
        drop_path_rate=0.0,
        init_cfg=None,
    ),
    decode_head=dict(in_channels=[48, 120, 192], channels=128, num_classes=11, norm_cfg=norm_cfg),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(128, 128)),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
