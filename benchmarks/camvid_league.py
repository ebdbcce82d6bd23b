# Settings of `benchmarks/league.py --common` for the league of small models on CamVid: the configs'
# own schedule of 2000 iterations, with tests at its end alone.
train_cfg = dict(val_interval=20000)
default_hooks = dict(checkpoint=dict(interval=250, save_best=None))
