# STEP's baseline (second version of SegViT's head) with ViT-B/16 on Cityscapes.
_base_ = [
    '../_base_/models/segvit-v2_vit-b16.py',
    '../_base_/datasets/cityscapes-ratio_512x512.py',
    '../_base_/schedules/step_90k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=19),
)
tta_model = dict(type='ScoreTTAModel')
