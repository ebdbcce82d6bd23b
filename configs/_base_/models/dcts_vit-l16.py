# Dynamic token sharing with ViT-L/16 (STEP 3.2.1): groups of 2x2 to 16x16 by thresholds.
_base_ = ['./segvit-v2_vit-l16.py']
model = dict(
    backbone=dict(
        # tau-6899; tau-4999 is 0.4, 0.9, 0.9, 0.9
        merging=dict(type='ThresholdMerging', thresholds={'2': 0.6, '4': 0.8, '8': 0.9, '16': 0.9}),
        policy_net=dict(type='GroupPolicyNet', head=dict(group_sizes=(2, 4, 8, 16))),
    ),
)
sweep = dict(group='dCTS')
