# Mask2Former with the Swin-Mini of AutoFocusFormer's table 3 on ADE20K: the standard pixel decoder.
_base_ = [
    '../_base_/models/mask2former_swin-t.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/aff_80k.py',
    '../_base_/score_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        _delete_=True,
        type='AFFSwin',
        arch='mini',
        window_size=7,
        drop_path_rate=0.0,
        init_cfg=dict(
            type='Pretrained', checkpoint='pretrain/swin-mini_in1k.pth', prefix='backbone.'
        ),
    ),
    decode_head=dict(in_channels=(384, 256, 128, 32)),
)
# position biases of windows are not decayed
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'attn.bias': dict(lr_mult=0.1, decay_mult=0.0)})
)
