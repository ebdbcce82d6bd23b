# Settings of `benchmarks/league.py --common` for the league of small models on CamVid: 1000
# iterations, half of the configs' own schedule, and tests at the end alone.
length = 1000
train_cfg = dict(max_iters=length, val_interval=10 * length)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=False, begin=100, end=length),
]
default_hooks = dict(checkpoint=dict(interval=250, save_best=None))
