# Loading, augmentation and testing of every data set, each kind of augmentation in one function.
# MMEngine hands values from a base to its children, but no functions: what the functions return
# is listed here under the names of the files in datasets/, and each of them takes its own.
img_ratios = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]


def load(num_classes):
    return [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='CheckLabels', num_classes=num_classes),
    ]


def finish():
    return [
        flip(),
        dict(type='PhotoMetricDistortion'),
        dict(type='PackSegInputs'),
    ]


def mask2former(num_classes, short_side, crop_size):
    """Mask2Former's, which ARTA, DUPS and AutoFocusFormer follow: one of 16 sizes.

    The short side becomes 0.5 to 2 times ``short_side``.
    """
    resize = dict(
        type='RandomChoiceResize',
        scales=[int(short_side * x * 0.1) for x in range(5, 21)],
        resize_type='ResizeShortestEdge',
        max_size=4 * short_side,
    )
    crop = dict(type='RandomCrop', crop_size=crop_size)
    return [*load(num_classes), resize, crop, *finish()]


def ratio(num_classes, scale, crop_size):
    """The stock one, also SegFormer's, which LRFormer, SegViT and STEP follow: any ratio.

    Images become 0.5 to 2 times ``scale``; in no crop one class covers more than three quarters.
    """
    resize = dict(type='RandomResize', scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True)
    crop = dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75)
    return [*load(num_classes), resize, crop, *finish()]


def groups(num_classes, *steps):
    """That of policy networks: the labels have the size of the image."""
    return [*load(num_classes), *steps, dict(type='PackSegInputs')]


def flip():
    return dict(type='RandomFlip', prob=0.5)


def whole(size):
    return dict(type='Resize', scale=size, keep_ratio=False)


def plain_test(num_classes, scale):
    # Labels are loaded after Resize: the prediction is brought back to the size of the file.
    image, *labels = load(num_classes)
    resize = dict(type='Resize', scale=scale, keep_ratio=True)
    return [image, resize, *labels, dict(type='PackSegInputs')]


def augmented_test(num_classes, scale):
    """Six sizes, flipped and not (DUPS appendix A)."""
    image, *labels = load(num_classes)
    sizes = [tuple(int(side * r) for side in scale) for r in img_ratios]
    transforms = [
        [dict(type='Resize', scale=size, keep_ratio=True) for size in sizes],
        [dict(type='RandomFlip', prob=p, direction='horizontal') for p in (0.0, 1.0)],
        *([step] for step in labels),
        [dict(type='PackSegInputs')],
    ]
    return [image, dict(type='TestTimeAug', transforms=transforms)]


train_pipeline = {
    'ade20k_512x512': mask2former(150, 512, (512, 512)),
    'ade20k_640x640': mask2former(150, 640, (640, 640)),
    'ade20k-ratio_512x512': ratio(150, (2048, 512), (512, 512)),
    'ade20k-ratio_640x640': ratio(150, (2560, 640), (640, 640)),
    'ade20k-groups_512x512': groups(150, whole((512, 512)), flip()),
    'camvid_256x256': ratio(11, (480, 360), (256, 256)),
    'cityscapes_1024x1024': mask2former(19, 1024, (1024, 1024)),
    'cityscapes_512x1024': mask2former(19, 1024, (512, 1024)),
    'cityscapes-ratio_1024x1024': ratio(19, (2048, 1024), (1024, 1024)),
    'cityscapes-ratio_768x768': ratio(19, (2048, 1024), (768, 768)),
    'cityscapes-ratio_512x512': ratio(19, (2048, 1024), (512, 512)),
    'cityscapes-groups_768x768': groups(19, dict(type='RandomCrop', crop_size=(768, 768)), flip()),
    'coco-stuff_512x512': mask2former(171, 512, (512, 512)),
    'coco-stuff-ratio_512x512': ratio(171, (2048, 512), (512, 512)),
    'coco-stuff-groups_512x512': groups(171, whole((512, 512)), flip()),
}
test_pipeline = {
    'ade20k': plain_test(150, (2048, 512)),
    'ade20k-640': plain_test(150, (2560, 640)),
    'ade20k-groups': groups(150, whole((512, 512))),
    'camvid': plain_test(11, (480, 360)),
    'cityscapes': plain_test(19, (2048, 1024)),
    'cityscapes-groups': groups(19),
    'coco-stuff': plain_test(171, (2048, 512)),
    'coco-stuff-groups': groups(171, whole((512, 512))),
}
tta_pipeline = {
    'ade20k': augmented_test(150, (2048, 512)),
    'ade20k-640': augmented_test(150, (2560, 640)),
    'camvid': augmented_test(11, (480, 360)),
    'cityscapes': augmented_test(19, (2048, 1024)),
    'coco-stuff': augmented_test(171, (2048, 512)),
}
train_dataloader = dict(
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
