# 100 epochs in total batches of 1024: of the backbones of ablations (LRFormer 4.4).
_base_ = ['./adamw_300e.py']
param_scheduler = _base_.param_scheduler
param_scheduler[-1].update(end=100)
train_cfg = dict(max_epochs=100)
