# Without depth-wise convolutions before the attention and in the feed-forward networks (table 9).
_base_ = [
    '../../_base_/models/lrformer-s.py',
    '../../_base_/datasets/ade20k-ratio_512x512.py',
    '../../_base_/schedules/lrformer_80k.py',
    '../../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    # their pre-trained weights are another checkpoint
    backbone=dict(
        position_conv=False,
        mlp_conv=False,
        init_cfg=dict(checkpoint='pretrain/lrformer-s-no-convs_in1k.pth'),
    ),
)
