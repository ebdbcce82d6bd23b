# ImageNet-1K at 224x224: 1000 classes.
_base_ = ['./pipelines.py']
dataset_type = 'ImageNet'
data_root = 'data/imagenet'
image_size = (224, 224)
train_pipeline = _base_.train_pipeline['224']
test_pipeline = _base_.test_pipeline['224']
train_dataloader = dict(
    dataset=dict(type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    dataset=dict(type=dataset_type, data_root=data_root, split='val', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
