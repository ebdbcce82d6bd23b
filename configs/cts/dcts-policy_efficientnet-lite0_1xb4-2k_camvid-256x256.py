# Policy network of dCTS, for groups of 4x4 and 8x8 patches of 8 px: trains on a CPU, from random
# initialisation.
_base_ = [
    '../_base_/models/group-policy_efficientnet-lite0.py',
    '../_base_/datasets/camvid-groups_256x256.py',
    '../_base_/schedules/adamw_2k.py',
    '../_base_/default_runtime.py',
]
crop_size = (256, 256)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(init_cfg=None),
    decode_head=dict(group_sizes=(4, 8), patch_size=8, num_classes=11),
)
val_evaluator = dict(patch_size=8)
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='mF1', rule='greater'))
