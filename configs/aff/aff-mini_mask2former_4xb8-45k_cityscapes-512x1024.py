# AutoFocusFormer-Mini with the point-based Mask2Former decoder on Cityscapes, tested on whole
# images.
_base_ = [
    '../_base_/models/aff-mini_mask2former.py',
    '../_base_/datasets/cityscapes_512x1024.py',
    '../_base_/schedules/aff_45k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 1024)
model = dict(
    data_preprocessor=dict(size=crop_size),
    # best on Cityscapes (AFF table 6)
    backbone=dict(alpha=8.0),
    decode_head=dict(num_classes=19),
)
train_dataloader = dict(batch_size=8)
