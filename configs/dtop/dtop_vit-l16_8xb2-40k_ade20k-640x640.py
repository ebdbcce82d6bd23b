# DToP with ViT-L/16 on ADE20K, fine-tuned from the model without halting.
_base_ = [
    '../_base_/models/dtop_vit-l16.py',
    '../_base_/datasets/ade20k-ratio_640x640.py',
    '../_base_/schedules/dtop_40k.py',
    '../_base_/score_runtime.py',
]
crop_size = (640, 640)
halting_head = dict(num_classes=150, num_heads=8, self_attention=True)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        img_size=640,
        patch_bias=True,
        halting=dict(head=halting_head, policy=dict(threshold=0.95)),
    ),
    decode_head=halting_head,
    test_cfg=dict(crop_size=crop_size, stride=(320, 320)),
)
train_dataloader = dict(batch_size=2)
load_from = 'work_dirs/dtop-base_vit-l16_8xb2-160k_ade20k-640x640/iter_160000.pth'
