# DToP with ViT-L/16 on COCO-Stuff 10k, fine-tuned from the model without halting.
_base_ = [
    '../_base_/models/dtop_vit-l16.py',
    '../_base_/datasets/coco-stuff10k-ratio_512x512.py',
    '../_base_/schedules/dtop_20k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 512)
halting_head = dict(num_classes=171, num_heads=16, self_attention=True)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        patch_bias=True,
        halting=dict(head=halting_head, policy=dict(threshold=0.95)),
    ),
    decode_head=halting_head,
)
train_dataloader = dict(batch_size=2)
load_from = 'work_dirs/dtop-base_vit-l16_8xb2-160k_coco-stuff10k-512x512/iter_160000.pth'
