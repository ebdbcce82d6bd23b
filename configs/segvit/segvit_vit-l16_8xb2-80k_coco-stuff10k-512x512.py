# SegViT with ViT-L/16 on COCO-Stuff 10k.
_base_ = [
    '../_base_/models/segvit_vit-l16.py',
    '../_base_/datasets/coco-stuff10k-ratio_512x512.py',
    '../_base_/schedules/segvit_80k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=171),
)
train_dataloader = dict(batch_size=2)
