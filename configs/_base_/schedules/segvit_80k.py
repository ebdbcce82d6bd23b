# SegViT's recipe for COCO-Stuff 10k: 80k iterations, more decay of weights and learning rate.
_base_ = ['./segvit_160k.py']
optim_wrapper = dict(optimizer=dict(weight_decay=0.02))
param_scheduler = _base_.param_scheduler
param_scheduler[-1].update(power=2.0, end=80000)
train_cfg = dict(max_iters=80000, val_interval=8000)
default_hooks = dict(checkpoint=dict(interval=8000))
