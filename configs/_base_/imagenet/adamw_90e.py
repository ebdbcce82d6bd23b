# 90 epochs of ImageNet-22K in total batches of 1024 (LRFormer 4.1); warm-up as Swin has it there.
# Without validation, for which the data set has no images.
_base_ = ['./adamw_300e.py']
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=5)
param_scheduler[-1].update(begin=5, end=90)
train_cfg = dict(max_epochs=90)
val_cfg = None
