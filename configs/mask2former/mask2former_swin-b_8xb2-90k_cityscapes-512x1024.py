# Mask2Former with Swin-B, pre-trained on ImageNet-22K, on Cityscapes, tested on whole images.
_base_ = [
    '../_base_/models/mask2former_swin-b.py',
    '../_base_/datasets/cityscapes_512x1024.py',
    '../_base_/schedules/mask2former_90k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 1024)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=19),
)
train_dataloader = dict(batch_size=2)
