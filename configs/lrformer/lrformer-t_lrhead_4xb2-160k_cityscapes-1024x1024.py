# LRFormer-T on Cityscapes, tested in windows of the crop.
_base_ = [
    '../_base_/models/lrformer-t.py',
    '../_base_/datasets/cityscapes-ratio_1024x1024.py',
    '../_base_/schedules/lrformer_160k.py',
    '../_base_/default_runtime.py',
]
crop_size = (1024, 1024)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=19),
    test_cfg=dict(_delete_=True, mode='slide', crop_size=crop_size, stride=(768, 768)),
)
train_dataloader = dict(batch_size=2)
