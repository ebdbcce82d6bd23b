# DToP's recipe for models without halting: SegViT's, with a learning rate that falls by power 0.9.
_base_ = ['./segvit_160k.py']
param_scheduler = _base_.param_scheduler
param_scheduler[-1].update(power=0.9)
