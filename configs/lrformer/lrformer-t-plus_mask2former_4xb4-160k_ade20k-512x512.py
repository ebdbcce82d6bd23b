# LRFormer-T+ on ADE20K.
_base_ = [
    '../_base_/models/lrformer-t-plus.py',
    '../_base_/datasets/ade20k-ratio_512x512.py',
    '../_base_/schedules/lrformer_160k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
)
# the decoder's usual clipping, as in the published code
optim_wrapper = dict(clip_grad=dict(max_norm=0.01))
