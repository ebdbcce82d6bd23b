# dCTS, tau-6899, with ViT-L/16 on ADE20K.
_base_ = [
    '../_base_/models/dcts_vit-l16.py',
    '../_base_/datasets/ade20k-ratio_640x640.py',
    '../_base_/schedules/step_160k.py',
    '../_base_/default_runtime.py',
]
crop_size = (640, 640)
# trained by dcts-policy_efficientnet-lite0_1xb8-50k_ade20k-512x512.py
policy_checkpoint = (
    'work_dirs/dcts-policy_efficientnet-lite0_1xb8-50k_ade20k-512x512/iter_50000.pth'
)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        img_size=640,
        policy_net=dict(init_cfg=dict(type='Pretrained', checkpoint=policy_checkpoint)),
    ),
    test_cfg=dict(crop_size=crop_size, stride=(608, 608)),
)
tta_model = dict(type='ScoreTTAModel')
