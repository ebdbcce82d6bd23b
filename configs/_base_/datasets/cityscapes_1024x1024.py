# Cityscapes in crops of 1024x1024: Mask2Former's augmentation.
_base_ = ['./cityscapes.py']
crop_size = (1024, 1024)
train_pipeline = _base_.train_pipeline['cityscapes_1024x1024']
test_pipeline = _base_.test_pipeline['cityscapes']
tta_pipeline = _base_.tta_pipeline['cityscapes']
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
