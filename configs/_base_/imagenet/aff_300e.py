# AutoFocusFormer's 300 epochs in total batches of 4096; its rates are Swin's times batch / 512.
_base_ = ['./adamw_300e.py']
optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = _base_.param_scheduler
param_scheduler[-1].update(eta_min=4e-5)
auto_scale_lr = dict(base_batch_size=4096)
