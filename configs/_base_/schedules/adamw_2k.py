# A short schedule for small models trained from random initialisation on small data sets.
_base_ = ['./iterations.py']
# optimizer
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='NormFreeDecayConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
# learning policy
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=False, begin=100, end=2000),
]
# lengths
train_cfg = dict(max_iters=2000, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=500, max_keep_ckpts=1))
