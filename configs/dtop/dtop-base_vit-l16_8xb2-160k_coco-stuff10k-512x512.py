# ViT-L/16 with DToP's heads on COCO-Stuff 10k, trained before any token is halted.
_base_ = [
    '../_base_/models/dtop_vit-l16.py',
    '../_base_/datasets/coco-stuff10k-ratio_512x512.py',
    '../_base_/schedules/dtop_160k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 512)
halting_head = dict(num_classes=171, num_heads=16, self_attention=True)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        patch_bias=True,
        halting=dict(head=halting_head, policy=dict(threshold=1.0)),
    ),
    decode_head=halting_head,
)
train_dataloader = dict(batch_size=2)
