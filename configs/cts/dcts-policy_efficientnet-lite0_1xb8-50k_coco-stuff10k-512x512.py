# Policy network of dCTS, for groups of 2x2 to 16x16 patches, on COCO-Stuff 10k.
_base_ = [
    '../_base_/models/group-policy_efficientnet-lite0.py',
    '../_base_/datasets/coco-stuff10k-groups_512x512.py',
    '../_base_/schedules/group-policy_50k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(group_sizes=(2, 4, 8, 16), num_classes=171),
)
