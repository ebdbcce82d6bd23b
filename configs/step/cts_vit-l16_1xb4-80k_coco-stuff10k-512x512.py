# CTS with ViT-L/16 on COCO-Stuff 10k.
_base_ = [
    '../_base_/models/cts_vit-l16.py',
    '../_base_/datasets/coco-stuff10k-ratio_512x512.py',
    '../_base_/schedules/step_80k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
# trained by cts-policy_efficientnet-lite0_1xb8-50k_coco-stuff10k-512x512.py
policy_checkpoint = (
    'work_dirs/cts-policy_efficientnet-lite0_1xb8-50k_coco-stuff10k-512x512/iter_50000.pth'
)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        policy_net=dict(init_cfg=dict(type='Pretrained', checkpoint=policy_checkpoint)),
    ),
    decode_head=dict(num_classes=171),
)
tta_model = dict(type='ScoreTTAModel')
