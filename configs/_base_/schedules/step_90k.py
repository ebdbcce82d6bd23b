# STEP's recipe for 90k iterations.
_base_ = ['./step_160k.py']
param_scheduler = _base_.param_scheduler
param_scheduler[-1].update(end=90000)
train_cfg = dict(max_iters=90000, val_interval=9000)
default_hooks = dict(checkpoint=dict(interval=9000))
