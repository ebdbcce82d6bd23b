# 8 epochs on a CPU, for small models and images.
_base_ = ['./adamw_300e.py']
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=1)
param_scheduler[-1].update(begin=1, end=8)
train_cfg = dict(max_epochs=8)
auto_scale_lr = dict(base_batch_size=64)
