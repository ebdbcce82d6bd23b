# CTS with ViT-L/16 on Cityscapes.
_base_ = ['./segvit-v2_vit-l16_1xb4-90k_cityscapes-1024x1024.py']
# trained by cts-policy_efficientnet-lite0_1xb8-50k_cityscapes-768x768.py
policy_checkpoint = (
    'work_dirs/cts-policy_efficientnet-lite0_1xb8-50k_cityscapes-768x768/iter_50000.pth'
)
model = dict(
    backbone=dict(
        # 103 of the 256 groups of a 512x512 image, and the same share of others
        merging=dict(type='TopGroupMerging', share=103 / 256),
        policy_net=dict(
            type='GroupPolicyNet',
            head=dict(group_sizes=(2,)),
            init_cfg=dict(type='Pretrained', checkpoint=policy_checkpoint),
        ),
    ),
)
