# AutoFocusFormer's retrained Swin-Mini on ImageNet-1K (AFF table 2).
_base_ = [
    '../_base_/imagenet/aff-mini.py',
    '../_base_/imagenet/in1k_224x224.py',
    '../_base_/imagenet/aff_300e.py',
]
train_dataloader = dict(batch_size=256)
model = dict(
    backbone=dict(
        _delete_=True,
        type='AFFSwin',
        arch='mini',
        window_size=7,
        drop_path_rate=0.0,
        out_stages=(3,),
    ),
)
# position biases of windows are not decayed
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'attn.bias': dict(decay_mult=0.0)}))
