# DToP with ViT-B/16 on ADE20K, fine-tuned from the model without halting.
_base_ = [
    '../_base_/models/dtop_vit-b16.py',
    '../_base_/datasets/ade20k-ratio_512x512.py',
    '../_base_/schedules/dtop_40k.py',
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
        halting=dict(head=halting_head, policy=dict(threshold=0.9)),
    ),
    decode_head=halting_head,
)
train_dataloader = dict(batch_size=2)
load_from = 'work_dirs/dtop-base_vit-b16_8xb2-160k_ade20k-512x512/iter_160000.pth'
