# AutoFocusFormer-Mini on CamVid from random initialisation, for a GPU; the nano model is for a CPU.
_base_ = [
    '../_base_/models/aff-mini_mask2former.py',
    '../_base_/datasets/camvid_256x256.py',
    '../_base_/schedules/adamw_2k.py',
    '../_base_/score_runtime.py',
]
crop_size = (256, 256)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(init_cfg=None),
    decode_head=dict(num_classes=11),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(128, 128)),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
