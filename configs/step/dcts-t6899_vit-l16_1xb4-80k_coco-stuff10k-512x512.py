# dCTS, tau-6899, with ViT-L/16 on COCO-Stuff 10k.
_base_ = ['./segvit-v2_vit-l16_1xb4-80k_coco-stuff10k-512x512.py']
# trained by dcts-policy_efficientnet-lite0_1xb8-50k_coco-stuff10k-512x512.py
policy_checkpoint = (
    'work_dirs/dcts-policy_efficientnet-lite0_1xb8-50k_coco-stuff10k-512x512/iter_50000.pth'
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
