# 300 epochs in total batches of 1024: the recipe of DeiT and Swin.
_base_ = ['./runtime.py']
# optimizer
optim_wrapper = dict(
    type='OptimWrapper',
    # One group for parameters with equal settings, see mmseg_arta.engine.
    constructor='mmseg.NormFreeDecayConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
# learning policy
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=20,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=True,
        begin=20,
        end=300,
        convert_to_iter_based=True,
    ),
]
# lengths
train_cfg = dict(max_epochs=300)
auto_scale_lr = dict(base_batch_size=1024)
