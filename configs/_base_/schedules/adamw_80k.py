# Fine-tuning recipe of ARTA (section 4) and DUPS (appendix A): backbone at 4e-5, decoder and
# allocators at ten times that, WarmupPolyLR. For a total batch of 32.
_base_ = ['./iterations.py']
# optimizer
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='NormFreeDecayConstructor',
    optimizer=dict(type='AdamW', lr=4e-4, betas=(0.9, 0.999), weight_decay=0.05),
    # the longest key that a parameter's name contains counts
    paramwise_cfg=dict(
        custom_keys={'backbone': dict(lr_mult=0.1), 'backbone.allocators': dict(lr_mult=1.0)},
        norm_decay_mult=0.0,
        embed_decay_mult=0.0,
    ),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
# learning policy: the warm-up factor multiplies the polynomial, which starts at iteration 0
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=2500),
    dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=False, begin=0, end=80000),
]
# lengths
train_cfg = dict(max_iters=80000, val_interval=8000)
default_hooks = dict(checkpoint=dict(interval=8000))
