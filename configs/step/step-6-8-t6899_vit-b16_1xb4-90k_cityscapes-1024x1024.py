# STEP@[6,8], tau-6899, with ViT-B/16 on Cityscapes.
_base_ = [
    '../_base_/models/step_vit-b16.py',
    '../_base_/datasets/cityscapes-ratio_1024x1024.py',
    '../_base_/schedules/step_90k.py',
    '../_base_/default_runtime.py',
]
crop_size = (1024, 1024)
# trained by dcts-policy_efficientnet-lite0_1xb8-50k_cityscapes-768x768.py
policy_checkpoint = (
    'work_dirs/dcts-policy_efficientnet-lite0_1xb8-50k_cityscapes-768x768/iter_50000.pth'
)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        img_size=1024,
        policy_net=dict(init_cfg=dict(type='Pretrained', checkpoint=policy_checkpoint)),
        halting=dict(head=dict(num_classes=19)),
    ),
    decode_head=dict(num_classes=19),
    test_cfg=dict(crop_size=crop_size, stride=(682, 682)),
)
tta_model = dict(type='ScoreTTAModel')
