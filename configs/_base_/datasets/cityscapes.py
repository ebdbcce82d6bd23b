# Cityscapes: 19 classes. The files beside this one add crops and augmentation.
_base_ = ['../pipelines.py']
dataset_type = 'CityscapesDataset'
data_root = 'data/cityscapes'
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
    ),
)
test_dataloader = val_dataloader
