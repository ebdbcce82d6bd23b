# 30 epochs of ImageNet-1K after ImageNet-22K in total batches of 512 (LRFormer 4.1): with
# next to no weight decay and no warm-up, as ConvNeXt has it at this rate.
_base_ = ['./adamw_300e.py']
optim_wrapper = dict(optimizer=dict(lr=5e-5, weight_decay=1e-8))
param_scheduler = _base_.param_scheduler[1:]
param_scheduler[-1].update(eta_min=1e-6, begin=0, end=30)
train_cfg = dict(max_epochs=30)
auto_scale_lr = dict(base_batch_size=512)
