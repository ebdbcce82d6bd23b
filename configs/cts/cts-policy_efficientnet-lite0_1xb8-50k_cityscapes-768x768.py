# Policy network of CTS on Cityscapes.
_base_ = [
    '../_base_/models/group-policy_efficientnet-lite0.py',
    '../_base_/datasets/cityscapes-groups_768x768.py',
    '../_base_/schedules/group-policy_50k.py',
    '../_base_/default_runtime.py',
]
crop_size = (768, 768)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=19),
)
