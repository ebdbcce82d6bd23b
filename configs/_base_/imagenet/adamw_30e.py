# 30 epochs of ImageNet-1K after ImageNet-22K in total batches of 512 (LRFormer 4.1): with
# next to no weight decay and no warm-up, as ConvNeXt has it at this rate.
_base_ = ['./runtime.py']
# optimizer
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-8),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
# learning policy
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        by_epoch=True,
        begin=0,
        end=30,
        convert_to_iter_based=True,
    ),
]
# lengths
train_cfg = dict(max_epochs=30)
auto_scale_lr = dict(base_batch_size=512)
