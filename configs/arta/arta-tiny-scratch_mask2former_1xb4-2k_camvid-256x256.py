# ARTA-Tiny on CamVid from random initialisation, for a GPU; the nano models are for a CPU.
_base_ = [
    '../_base_/models/arta-tiny_mask2former.py',
    '../_base_/datasets/camvid_256x256.py',
    '../_base_/schedules/adamw_2k.py',
    '../_base_/score_runtime.py',
]
crop_size = (256, 256)
# As for the nano models: layers whose inputs add up would turn their outputs over in one step.
slow = dict(lr_mult=0.1)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(drop_path_rate=0.0, init_cfg=None),
    decode_head=dict(num_classes=11),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(128, 128)),
)
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(
        custom_keys={'score.layers': slow, 'attn.pos_embed': slow, 'image_mlp.0': slow}
    ),
)
