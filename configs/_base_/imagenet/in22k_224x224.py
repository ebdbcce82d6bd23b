# ImageNet-22K at 224x224, which mmpretrain calls ImageNet21k. It has no validation split: tests
# take the images that meta/val.txt names, held out of meta/train.txt.
_base_ = ['./pipelines.py']
dataset_type = 'ImageNet21k'
data_root = 'data/imagenet21k'
image_size = (224, 224)
train_pipeline = _base_.train_pipeline['224']
test_pipeline = _base_.test_pipeline['224']
train_dataloader = dict(
    dataset=dict(type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline),
)
val_dataloader = None
val_evaluator = None
test_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix='val',
        ann_file='meta/val.txt',
        pipeline=test_pipeline,
    ),
)
