# Loading, augmentation and testing of every data set, each kind of augmentation in one function.
# MMEngine hands values from a base to its children, but no functions: what the functions return
# is listed below under the names of the files in datasets/, and each of them takes its own.
img_ratios = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]


def load(num_classes):
    return [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='CheckLabels', num_classes=num_classes),
    ]


def seed():
    # What follows is random; see NumberedInfiniteSampler below.
    return [dict(type='SeedByDraw')]


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
    return [*load(num_classes), *seed(), resize, crop, *finish()]


def ratio(num_classes, scale, crop_size):
    """The stock one, also SegFormer's, which LRFormer, SegViT and STEP follow: any ratio.

    Images become 0.5 to 2 times ``scale``; in no crop one class covers more than three quarters.
    """
    resize = dict(type='RandomResize', scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True)
    crop = dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75)
    return [*load(num_classes), *seed(), resize, crop, *finish()]


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


# Each data set's number of classes goes to whatever makes a pipeline.
def ade20k(pipeline, *options):
    return pipeline(150, *options)


def camvid(pipeline, *options):
    return pipeline(11, *options)


def cityscapes(pipeline, *options):
    return pipeline(19, *options)


def coco_stuff(pipeline, *options):
    return pipeline(171, *options)


train_pipeline = {
    'ade20k_512x512': ade20k(mask2former, 512, (512, 512)),
    'ade20k_640x640': ade20k(mask2former, 640, (640, 640)),
    'ade20k-ratio_512x512': ade20k(ratio, (2048, 512), (512, 512)),
    'ade20k-ratio_640x640': ade20k(ratio, (2560, 640), (640, 640)),
    'ade20k-groups_512x512': ade20k(groups, *seed(), whole((512, 512)), flip()),
    'camvid_256x256': camvid(ratio, (480, 360), (256, 256)),
    'camvid-groups_256x256': camvid(
        groups, *seed(), dict(type='RandomCrop', crop_size=(256, 256)), flip()
    ),
    'cityscapes_1024x1024': cityscapes(mask2former, 1024, (1024, 1024)),
    'cityscapes_512x1024': cityscapes(mask2former, 1024, (512, 1024)),
    'cityscapes-ratio_1024x1024': cityscapes(ratio, (2048, 1024), (1024, 1024)),
    'cityscapes-ratio_768x768': cityscapes(ratio, (2048, 1024), (768, 768)),
    'cityscapes-ratio_512x512': cityscapes(ratio, (2048, 1024), (512, 512)),
    'cityscapes-groups_768x768': cityscapes(
        groups, *seed(), dict(type='RandomCrop', crop_size=(768, 768)), flip()
    ),
    'coco-stuff_512x512': coco_stuff(mask2former, 512, (512, 512)),
    'coco-stuff-ratio_512x512': coco_stuff(ratio, (2048, 512), (512, 512)),
    'coco-stuff-groups_512x512': coco_stuff(groups, *seed(), whole((512, 512)), flip()),
}
test_pipeline = {
    'ade20k': ade20k(plain_test, (2048, 512)),
    'ade20k-640': ade20k(plain_test, (2560, 640)),
    'ade20k-groups': ade20k(groups, whole((512, 512))),
    'camvid': camvid(plain_test, (480, 360)),
    'camvid-groups': camvid(groups),
    'cityscapes': cityscapes(plain_test, (2048, 1024)),
    'cityscapes-groups': cityscapes(groups),
    'coco-stuff': coco_stuff(plain_test, (2048, 512)),
    'coco-stuff-groups': coco_stuff(groups, whole((512, 512))),
}
tta_pipeline = {
    'ade20k': ade20k(augmented_test, (2048, 512)),
    'ade20k-640': ade20k(augmented_test, (2560, 640)),
    'camvid': camvid(augmented_test, (480, 360)),
    'cityscapes': cityscapes(augmented_test, (2048, 1024)),
    'coco-stuff': coco_stuff(augmented_test, (2048, 512)),
}
train_dataloader = dict(
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='NumberedInfiniteSampler', shuffle=True),
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
