# Content-aware token sharing with ViT-L/16: a fixed share of 2x2 groups is merged.
_base_ = ['./segvit-v2_vit-l16.py']
model = dict(
    backbone=dict(
        # 103 of the 256 groups of a 512x512 image, and the same share of others
        merging=dict(type='TopGroupMerging', share=103 / 256),
        policy_net=dict(type='GroupPolicyNet', head=dict(group_sizes=(2,))),
    ),
)
sweep = dict(group='CTS')
