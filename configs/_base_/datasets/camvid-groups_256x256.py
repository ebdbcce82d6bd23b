# CamVid in crops of 256x256: what policy networks learn from.
_base_ = ['./camvid.py']
crop_size = (256, 256)
train_pipeline = _base_.train_pipeline['camvid-groups_256x256']
test_pipeline = _base_.test_pipeline['camvid-groups']
tta_pipeline = _base_.tta_pipeline['camvid']
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='GroupPolicyMetric', mixed='different')
test_evaluator = val_evaluator
