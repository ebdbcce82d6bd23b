# CTS' recipe for policy networks: AdamW at a constant 5e-5, weight decay 1e-3, total batch of 8.
_base_ = ['./iterations.py']
# optimizer
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-5, betas=(0.9, 0.999), weight_decay=1e-3),
)
# learning policy
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=False, begin=0, end=50000)]
# lengths
train_cfg = dict(max_iters=50000, val_interval=5000)
default_hooks = dict(checkpoint=dict(interval=5000, save_best='mF1', rule='greater'))
