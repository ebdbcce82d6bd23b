# LRFormer-S+ with the recipe of the published code: Mask2Former's augmentation, learning rates
# and decay.
_base_ = [
    '../_base_/models/lrformer-s-plus.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/mask2former_160k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 512)
# Test images are padded to whole cells of the coarsest map.
model = dict(data_preprocessor=dict(size=crop_size, test_cfg=dict(size_divisor=32)))
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(clip_grad=dict(max_norm=0.1))
