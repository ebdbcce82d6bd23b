# AutoFocusFormer's recipe for 45k iterations.
_base_ = ['./aff_80k.py']
param_scheduler = _base_.param_scheduler
param_scheduler[-1].update(end=45000)
train_cfg = dict(max_iters=45000)
