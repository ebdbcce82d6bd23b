# Loops and hooks of every schedule; a recipe adds optimizer, learning rates and lengths.
train_cfg = dict(type='IterBasedTrainLoop')
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='SafeCheckpointHook', by_epoch=False, max_keep_ckpts=2, save_best='mIoU'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
    pretrained=dict(type='SkipPretrainedHook'),
    settings=dict(type='CheckSettingsHook'),
    weights=dict(type='CheckWeightsHook'),
    losses=dict(type='NonFiniteLossHook'),
    # With SeedByDraw in the pipelines and a seed, a resumed run is the uninterrupted one.
    seeds=dict(type='IterationSeedHook'),
)
# Samplers are built before a checkpoint is read, so without a seed in the config a resumed run
# would shuffle by a new one. Runs to compare take others: --cfg-options randomness.seed=1.
randomness = dict(seed=0)
