# Cityscapes in crops of 512x512: the stock augmentation.
_base_ = ['./cityscapes.py']
crop_size = (512, 512)
train_pipeline = _base_.train_pipeline['cityscapes-ratio_512x512']
test_pipeline = _base_.test_pipeline['cityscapes']
tta_pipeline = _base_.tta_pipeline['cityscapes']
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
