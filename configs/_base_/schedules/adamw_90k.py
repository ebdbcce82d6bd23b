# The recipe of ARTA and DUPS for 90k iterations, for a total batch of 16.
_base_ = ['./adamw_80k.py']
param_scheduler = _base_.param_scheduler
param_scheduler[-1].update(end=90000)
train_cfg = dict(max_iters=90000, val_interval=9000)
default_hooks = dict(checkpoint=dict(interval=9000))
