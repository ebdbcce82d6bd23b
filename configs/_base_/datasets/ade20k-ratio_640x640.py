# ADE20K in crops of 640x640: the stock augmentation.
_base_ = ['./ade20k.py']
crop_size = (640, 640)
train_pipeline = _base_.train_pipeline['ade20k-ratio_640x640']
test_pipeline = _base_.test_pipeline['ade20k-640']
tta_pipeline = _base_.tta_pipeline['ade20k-640']
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
