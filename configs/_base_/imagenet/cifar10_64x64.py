# CIFAR-10 as image files in folders of their classes, enlarged from 32x32 to 64x64.
_base_ = ['./pipelines.py']
dataset_type = 'CustomDataset'
data_root = 'data/cifar10'
image_size = (64, 64)
classes = (
    *('airplane', 'automobile', 'bird', 'cat', 'deer'),
    *('dog', 'frog', 'horse', 'ship', 'truck'),
)
train_pipeline = _base_.train_pipeline['64']
test_pipeline = _base_.test_pipeline['64']
train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix='train',
        metainfo=dict(classes=classes),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix='val',
        metainfo=dict(classes=classes),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
