# Fine-tuning recipe of AutoFocusFormer: that of Mask2Former in half the iterations with twice the
# images and learning rate; the backbone at a tenth of it, norms and embeddings not decayed, the
# gradient of the whole model clipped, no warm-up. For a total batch of 32.
_base_ = ['./iterations.py']
# optimizer
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='NormFreeDecayConstructor',
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys={'backbone': dict(lr_mult=0.1)},
        norm_decay_mult=0.0,
        embed_decay_mult=0.0,
    ),
    clip_grad=dict(max_norm=0.01, norm_type=2),
)
# learning policy
param_scheduler = [
    dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=False, begin=0, end=80000),
]
# as published (AFF tables 3 and 4)
randomness = dict(seed=0)
# lengths
train_cfg = dict(max_iters=80000, val_interval=5000)
default_hooks = dict(checkpoint=dict(interval=5000))
