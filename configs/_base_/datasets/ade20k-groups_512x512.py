# ADE20K as whole images resized to 512x512: what policy networks learn from.
_base_ = ['./ade20k.py']
crop_size = (512, 512)
train_pipeline = _base_.train_pipeline['ade20k-groups_512x512']
test_pipeline = _base_.test_pipeline['ade20k-groups']
tta_pipeline = _base_.tta_pipeline['ade20k']
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='GroupPolicyMetric', mixed='border')
test_evaluator = val_evaluator
