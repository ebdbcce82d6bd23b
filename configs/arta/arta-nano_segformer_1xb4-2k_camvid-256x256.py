# A small ARTA that trains on a CPU, from random initialisation.
_base_ = [
    '../_base_/models/arta-tiny_segformer.py',
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
            dims=(160, 128, 96, 64),
            num_heads=(5, 4, 3, 2),
            allocation_depths=(1, 1, 1),
            refinement_depths=(2, 2, 3, 1),
            mlp_ratio=2.0,
        ),
        allocation=dict(thresholds=(0.01, 0.02, 0.04)),
        drop_path_rate=0.0,
        # Whole images of 360 px end within a 32 px token; no training crop does.
        padding_mode='replicate',
        init_cfg=None,
    ),
    neck=dict(in_channels=(160, 128, 96, 64)),
    decode_head=dict(
        in_channels=[64, 96, 128, 160], channels=128, num_classes=11, norm_cfg=norm_cfg
    ),
    # Windows as large as the training crops: the coarse tokens attend to all of them.
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(128, 128)),
)
# Layers whose inputs add up: pair geometry counted in pixels, hundreds of raw pixels of like
# brightness, and scores that are compared with thresholds of 0.01. At the full rate one step
# would turn their outputs over.
slow = dict(lr_mult=0.1)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'score.layers': slow, 'attn.pos_embed': slow, 'image_mlp.0': slow}
    )
)
