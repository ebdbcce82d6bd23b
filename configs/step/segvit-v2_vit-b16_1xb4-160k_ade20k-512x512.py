# STEP's baseline (second version of SegViT's head) with ViT-B/16 on ADE20K.
_base_ = [
    '../_base_/models/segvit-v2_vit-b16.py',
    '../_base_/datasets/ade20k-ratio_512x512.py',
    '../_base_/schedules/step_160k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
)
tta_model = dict(type='ScoreTTAModel')
