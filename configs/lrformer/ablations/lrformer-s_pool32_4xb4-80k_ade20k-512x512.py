# Pooled size 32 in the backbone (table 7); queries of smaller maps are not pooled.
_base_ = [
    '../../_base_/models/lrformer-s.py',
    '../../_base_/datasets/ade20k-ratio_512x512.py',
    '../../_base_/schedules/lrformer_80k.py',
    '../../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(pooled_size=32, pool_up=False),
)
# classes by size (table 8)
val_evaluator = dict(type='GroupedIoUMetric', groups='ade20k-size')
test_evaluator = val_evaluator
