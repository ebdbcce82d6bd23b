# Recipe of Mask2Former for semantic segmentation: AdamW, backbone at a tenth of the learning rate,
# no decay of norms, embeddings and position biases, poly. For a total batch of 16.
_base_ = ['./iterations.py']
# optimizer
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='NormFreeDecayConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    # the longest key that a parameter's name contains counts
    paramwise_cfg=dict(
        custom_keys={
            'backbone': dict(lr_mult=0.1),
            'relative_position_bias_table': dict(lr_mult=0.1, decay_mult=0.0),
        },
        norm_decay_mult=0.0,
        embed_decay_mult=0.0,
    ),
    clip_grad=dict(max_norm=0.01, norm_type=2),
)
# learning policy
param_scheduler = [
    dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=False, begin=0, end=160000),
]
# lengths
train_cfg = dict(max_iters=160000, val_interval=5000)
default_hooks = dict(checkpoint=dict(interval=5000))
