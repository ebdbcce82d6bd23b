# Loading, augmentation and testing of images with one label, each kind in one function; as in
# ../pipelines.py the files beside this one take what they need by name.
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
bicubic = dict(backend='pillow', interpolation='bicubic')


def augmented(size):
    """DeiT's and Swin's: crops of any size and aspect, RandAugment, random erasing."""
    return [
        dict(type='LoadImageFromFile'),
        dict(type='RandomResizedCrop', scale=size, **bicubic),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        dict(
            type='RandAugment',
            policies='timm_increasing',
            num_policies=2,
            total_level=10,
            magnitude_level=9,
            magnitude_std=0.5,
            hparams=dict(pad_val=[round(x) for x in mean[::-1]], interpolation='bicubic'),
        ),
        dict(
            type='RandomErasing',
            erase_prob=0.25,
            mode='rand',
            min_area_ratio=0.02,
            max_area_ratio=1 / 3,
            fill_color=mean[::-1],
            fill_std=std[::-1],
        ),
        dict(type='PackInputs'),
    ]


def shifted(size):
    """For images that are too small to crop: moved by up to an eighth of their side."""
    return [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(size, size), **bicubic),
        dict(type='RandomCrop', crop_size=size, padding=size // 8, padding_mode='reflect'),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        dict(type='PackInputs'),
    ]


def centre(size):
    """The middle of the image, seven eighths of its short side."""
    return [
        dict(type='LoadImageFromFile'),
        dict(type='ResizeEdge', scale=size * 8 // 7, edge='short', **bicubic),
        dict(type='CenterCrop', crop_size=size),
        dict(type='PackInputs'),
    ]


def whole(size):
    """The whole image as a square."""
    return [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(size, size), **bicubic),
        dict(type='PackInputs'),
    ]


train_pipeline = {
    '224': augmented(224),
    '384': augmented(384),
    '64': shifted(64),
}
test_pipeline = {
    '224': centre(224),
    '384': whole(384),
    '64': whole(64),
}
# The workers start anew in every epoch with seeds that follow from the epoch: IterationSeedHook.
train_dataloader = dict(
    num_workers=5,
    persistent_workers=False,
    worker_init_fn=dict(type='keep_worker_seeds'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=5,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
