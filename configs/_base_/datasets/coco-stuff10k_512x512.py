# COCO-Stuff 10k in crops of 512x512: Mask2Former's augmentation.
_base_ = ['./coco-stuff10k.py']
crop_size = (512, 512)
train_pipeline = _base_.train_pipeline['coco-stuff_512x512']
test_pipeline = _base_.test_pipeline['coco-stuff']
tta_pipeline = _base_.tta_pipeline['coco-stuff']
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
