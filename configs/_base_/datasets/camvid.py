# CamVid: 11 classes. The files beside this one add crops and augmentation.
_base_ = ['../pipelines.py']
dataset_type = 'CamVidDataset'
data_root = 'data/camvid'
train_dataloader = dict(
    num_workers=2,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
    ),
)
val_dataloader = dict(
    num_workers=2,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
    ),
)
test_dataloader = val_dataloader
