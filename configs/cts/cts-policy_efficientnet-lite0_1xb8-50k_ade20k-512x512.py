# Policy network of CTS on ADE20K.
_base_ = [
    '../_base_/models/group-policy_efficientnet-lite0.py',
    '../_base_/datasets/ade20k-groups_512x512.py',
    '../_base_/schedules/group-policy_50k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(mixed='border'),
)
