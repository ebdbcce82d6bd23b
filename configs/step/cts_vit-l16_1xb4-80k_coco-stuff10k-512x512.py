# CTS with ViT-L/16 on COCO-Stuff 10k.
_base_ = ['./segvit-v2_vit-l16_1xb4-80k_coco-stuff10k-512x512.py']
# trained by cts-policy_efficientnet-lite0_1xb8-50k_coco-stuff10k-512x512.py
policy_checkpoint = (
    'work_dirs/cts-policy_efficientnet-lite0_1xb8-50k_coco-stuff10k-512x512/iter_50000.pth'
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
