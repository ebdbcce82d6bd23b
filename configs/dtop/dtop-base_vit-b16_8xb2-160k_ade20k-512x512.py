# ViT-B/16 with DToP's heads on ADE20K, trained before any token is halted.
_base_ = [
    '../_base_/models/dtop_vit-b16.py',
    '../_base_/datasets/ade20k-ratio_512x512.py',
    '../_base_/schedules/dtop_160k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 512)
halting_head = dict(num_classes=150, num_heads=6, self_attention=True)
model = dict(
    # ImageNet's, as published for this model alone
    data_preprocessor=dict(
        size=crop_size, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        patch_bias=True,
        halting=dict(head=halting_head, policy=dict(threshold=1.0)),
    ),
    decode_head=halting_head,
)
train_dataloader = dict(batch_size=2)
