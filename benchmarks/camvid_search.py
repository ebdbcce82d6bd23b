# Settings of `benchmarks/league.py --common` for the choice of learning rates on CamVid: a short
# schedule, and the validation images stay unseen. Training is on two of the three sequences that
# the training images are from, the test on every third image of the other one, 0006R0.
train_images = [*range(62), *range(163, 367)]
test_images = list(range(62, 163, 3))
train_dataloader = dict(dataset=dict(indices=train_images))
val_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
        indices=test_images,
    )
)
test_dataloader = val_dataloader
length = 300
train_cfg = dict(max_iters=length, val_interval=1000)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=False, begin=50, end=length),
]
default_hooks = dict(checkpoint=dict(interval=100, save_best=None))
