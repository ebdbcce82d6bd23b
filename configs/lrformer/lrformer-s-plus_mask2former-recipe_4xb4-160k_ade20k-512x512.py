# LRFormer-S+ with the recipe of the published code: Mask2Former's learning rates and decay.
_base_ = [
    '../_base_/models/lrformer-s-plus.py',
    '../_base_/datasets/ade20k-ratio_512x512.py',
    '../_base_/schedules/mask2former_160k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 512)
model = dict(data_preprocessor=dict(size=crop_size))
optim_wrapper = dict(clip_grad=dict(max_norm=0.1))
