# ViT-L/16 with DToP's heads on ADE20K, trained before any token is halted.
_base_ = [
    '../_base_/models/dtop_vit-l16.py',
    '../_base_/datasets/ade20k-ratio_640x640.py',
    '../_base_/schedules/dtop_160k.py',
    '../_base_/score_runtime.py',
]
crop_size = (640, 640)
halting_head = dict(num_classes=150, num_heads=8, self_attention=True)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        img_size=640,
        patch_bias=True,
        halting=dict(head=halting_head, policy=dict(threshold=1.0)),
    ),
    decode_head=halting_head,
    test_cfg=dict(crop_size=crop_size, stride=(320, 320)),
)
train_dataloader = dict(batch_size=2)
