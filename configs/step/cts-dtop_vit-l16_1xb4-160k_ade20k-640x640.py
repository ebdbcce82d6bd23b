# CTS and DToP with ViT-L/16 on ADE20K.
_base_ = ['./dtop_vit-l16_1xb4-160k_ade20k-640x640.py']
# trained by cts-policy_efficientnet-lite0_1xb8-50k_ade20k-512x512.py
policy_checkpoint = 'work_dirs/cts-policy_efficientnet-lite0_1xb8-50k_ade20k-512x512/iter_50000.pth'
model = dict(
    backbone=dict(
        # as published for this size: 164 of 400 groups
        merging=dict(type='TopGroupMerging', share=0.41),
        policy_net=dict(
            type='GroupPolicyNet',
            head=dict(group_sizes=(2,)),
            init_cfg=dict(type='Pretrained', checkpoint=policy_checkpoint),
        ),
    ),
)
