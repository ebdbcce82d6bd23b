# LRFormer-S for 80k iterations: what the ablations are compared with.
_base_ = [
    '../../_base_/models/lrformer-s.py',
    '../../_base_/datasets/ade20k-ratio_512x512.py',
    '../../_base_/schedules/lrformer_80k.py',
    '../../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
)
# classes by size (table 8)
val_evaluator = dict(type='GroupedIoUMetric', groups='ade20k-size')
test_evaluator = val_evaluator
