# AutoFocusFormer-Mini, whose last stage attends globally (AFF 5.1); without mixup and CutMix, as
# its published code has it.
_base_ = ['./classifier.py']
model = dict(
    backbone=dict(
        type='AutoFocusFormer',
        arch='mini',
        downsample_rate=0.25,
        neighborhood_size=(48, 48, 48, 49),
        alpha=4.0,
        drop_path_rate=0.0,
        out_stages=(3,),
    ),
    head=dict(in_channels=384),
    train_cfg=dict(augments=None),
)
