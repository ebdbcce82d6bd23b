# Mask2Former with Swin-B, pre-trained on ImageNet-22K, on COCO-Stuff 164k.
_base_ = [
    '../_base_/models/mask2former_swin-b.py',
    '../_base_/datasets/coco-stuff164k_512x512.py',
    '../_base_/schedules/mask2former_160k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=171),
)
train_dataloader = dict(batch_size=2)
