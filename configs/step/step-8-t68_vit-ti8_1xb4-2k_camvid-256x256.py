# STEP@[8] with ViT-Tiny at patches of 8 px: groups of 4x4 and 8x8 patches are merged. Trains on a
# CPU, from random initialisation but for its policy network.
_base_ = ['../segvit/segvit-v2_vit-ti8_1xb4-2k_camvid-256x256.py']
# trained by dcts-policy_efficientnet-lite0_1xb4-2k_camvid-256x256.py
policy_checkpoint = 'work_dirs/dcts-policy_efficientnet-lite0_1xb4-2k_camvid-256x256/iter_2000.pth'
halting_head = dict(
    in_channels=192,
    channels=96,
    num_heads=3,
    num_classes=11,
    num_layers=3,
    self_attention=False,
)
model = dict(
    backbone=dict(
        out_indices=(11,),
        merging=dict(type='ThresholdMerging', thresholds={'4': 0.6, '8': 0.8}),
        policy_net=dict(
            type='GroupPolicyNet',
            head=dict(group_sizes=(4, 8), patch_size=8),
            init_cfg=dict(type='Pretrained', checkpoint=policy_checkpoint),
        ),
        halting=dict(
            after=(8,),
            head=dict(type='ATMTokenClassifier', **halting_head),
            policy=dict(type='ConfidenceHalting', threshold=0.9, keep_per_class=5),
        ),
    ),
    decode_head=dict(_delete_=True, type='HaltingATMHead', **halting_head),
)
