# STEP's recipe (section 4.1): AdamW at 6e-5, weight decay 0.01, cosine, for a total batch of 4.
# The paper names no warm-up; this is the stock one of transformers.
_base_ = ['./iterations.py']
# optimizer
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
)
# learning policy
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=1500, end=160000),
]
# lengths
train_cfg = dict(max_iters=160000, val_interval=16000)
default_hooks = dict(checkpoint=dict(interval=16000))
