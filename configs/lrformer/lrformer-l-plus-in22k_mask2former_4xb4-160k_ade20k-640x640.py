# LRFormer-L+ on ADE20K at 640 px, pre-trained on ImageNet-22K.
_base_ = [
    '../_base_/models/lrformer-l-plus.py',
    '../_base_/datasets/ade20k-ratio_640x640.py',
    '../_base_/schedules/lrformer_160k.py',
    '../_base_/score_runtime.py',
]
crop_size = (640, 640)
model = dict(
    data_preprocessor=dict(size=crop_size),
)
# the decoder's usual clipping, as in the published code
optim_wrapper = dict(clip_grad=dict(max_norm=0.1))
