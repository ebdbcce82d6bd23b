# LRFormer-L+ with the recipe of the published code: Mask2Former's learning rates and decay.
_base_ = [
    '../_base_/models/lrformer-l-plus.py',
    '../_base_/datasets/ade20k-ratio_640x640.py',
    '../_base_/schedules/mask2former_160k.py',
    '../_base_/score_runtime.py',
]
crop_size = (640, 640)
model = dict(data_preprocessor=dict(size=crop_size))
optim_wrapper = dict(clip_grad=dict(max_norm=0.1))
