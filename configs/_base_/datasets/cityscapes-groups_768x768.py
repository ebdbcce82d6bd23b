# Cityscapes in crops of 768x768: what policy networks learn from.
_base_ = ['./cityscapes.py']
crop_size = (768, 768)
train_pipeline = _base_.train_pipeline['cityscapes-groups_768x768']
test_pipeline = _base_.test_pipeline['cityscapes-groups']
tta_pipeline = _base_.tta_pipeline['cityscapes']
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='GroupPolicyMetric', mixed='different')
test_evaluator = val_evaluator
