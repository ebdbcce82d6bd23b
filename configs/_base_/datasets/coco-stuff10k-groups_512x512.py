# COCO-Stuff 10k as whole images resized to 512x512: what policy networks learn from.
_base_ = ['./coco-stuff10k.py']
crop_size = (512, 512)
train_pipeline = _base_.train_pipeline['coco-stuff-groups_512x512']
test_pipeline = _base_.test_pipeline['coco-stuff-groups']
tta_pipeline = _base_.tta_pipeline['coco-stuff']
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='GroupPolicyMetric', mixed='different')
test_evaluator = val_evaluator
