# CTS and DToP with ViT-B/16 on ADE20K.
_base_ = [
    '../_base_/models/cts-dtop_vit-b16.py',
    '../_base_/datasets/ade20k-ratio_512x512.py',
    '../_base_/schedules/step_160k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
# trained by cts-policy_efficientnet-lite0_1xb8-50k_ade20k-512x512.py
policy_checkpoint = 'work_dirs/cts-policy_efficientnet-lite0_1xb8-50k_ade20k-512x512/iter_50000.pth'
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        policy_net=dict(init_cfg=dict(type='Pretrained', checkpoint=policy_checkpoint)),
    ),
)
tta_model = dict(type='ScoreTTAModel')
