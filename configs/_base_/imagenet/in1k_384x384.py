# ImageNet-1K at 384x384: 1000 classes, tested on whole images.
_base_ = ['./pipelines.py']
dataset_type = 'ImageNet'
data_root = 'data/imagenet'
image_size = (384, 384)
train_pipeline = _base_.train_pipeline['384']
test_pipeline = _base_.test_pipeline['384']
train_dataloader = dict(
    dataset=dict(type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    dataset=dict(type=dataset_type, data_root=data_root, split='val', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
