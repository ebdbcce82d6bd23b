# STEP@[6,8], tau-6899, with ViT-B/16 on Cityscapes.
_base_ = ['./dtop_vit-b16_1xb4-90k_cityscapes-512x512.py']
# trained by dcts-policy_efficientnet-lite0_1xb8-50k_cityscapes-768x768.py
policy_checkpoint = (
    'work_dirs/dcts-policy_efficientnet-lite0_1xb8-50k_cityscapes-768x768/iter_50000.pth'
)
model = dict(
    backbone=dict(
        merging=dict(type='ThresholdMerging', thresholds={'2': 0.6, '4': 0.8, '8': 0.9, '16': 0.9}),
        policy_net=dict(
            type='GroupPolicyNet',
            head=dict(group_sizes=(2, 4, 8, 16)),
            init_cfg=dict(type='Pretrained', checkpoint=policy_checkpoint),
        ),
    ),
)
