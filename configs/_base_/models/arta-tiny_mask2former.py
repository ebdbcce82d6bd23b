# ARTA-Tiny, pre-trained on ImageNet-1K, with its auxiliary boundary-score loss and the point-based
# Mask2Former decoder of the paper (section 3.5).
_base_ = ['./mask2former.py']
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    backbone=dict(
        type='ARTA',
        arch='tiny',
        allocation=dict(type='ThresholdAllocation', thresholds=(0.005, 0.01, 0.02)),
        drop_path_rate=0.3,
        init_cfg=dict(
            type='Pretrained', checkpoint='pretrain/arta-tiny_in1k.pth', prefix='backbone.'
        ),
    ),
    auxiliary_head=dict(type='BoundaryScoreHead', loss_weight=10.0),
    decode_head=dict(in_channels=(512, 256, 128, 64), pixel_decoder=dict(type='point')),
)
custom_hooks = [dict(type='TokenStatisticsHook'), dict(type='TokenPictureHook')]
