# Fine-tuning recipe of ARTA (section 4) and DUPS (appendix A): backbone at 4e-5, decoder and
# allocators at ten times that, WarmupPolyLR. For a total batch of 16.
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
    dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=False, begin=0, end=90000),
]
# training schedule for 90k
train_cfg = dict(type='IterBasedTrainLoop', max_iters=90000, val_interval=9000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=9000, max_keep_ckpts=2, save_best='mIoU'
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
