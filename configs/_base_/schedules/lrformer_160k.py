# Fine-tuning recipe of LRFormer (section 4.1): AdamW, linear warm-up, linear decay; the decoder at
# ten times the learning rate and the gradient clipping are the published code's.
_base_ = ['./iterations.py']
# optimizer
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='NormFreeDecayConstructor',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={'decode_head': dict(lr_mult=10.0)}, norm_decay_mult=0.0),
    clip_grad=dict(max_norm=35.0, norm_type=2),
)
# learning policy
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=1500, end=160000),
]
# lengths
train_cfg = dict(max_iters=160000, val_interval=16000)
default_hooks = dict(checkpoint=dict(interval=16000))
