# STEP with ViT-B/16: dynamic token sharing and halting, tau-6899.
_base_ = ['./dtop_vit-b16.py']
model = dict(
    backbone=dict(
        merging=dict(type='ThresholdMerging', thresholds={'2': 0.6, '4': 0.8, '8': 0.9, '16': 0.9}),
        policy_net=dict(type='GroupPolicyNet', head=dict(group_sizes=(2, 4, 8, 16))),
    ),
)
sweep = dict(group='STEP')
