# AutoFocusFormer-Mini with the point-based Mask2Former decoder (AFF 4.1).
_base_ = ['./mask2former.py']
model = dict(
    backbone=dict(
        type='AutoFocusFormer',
        arch='mini',
        downsample_rate=0.25,
        neighborhood_size=48,
        alpha=4.0,
        drop_path_rate=0.0,
        init_cfg=dict(
            type='Pretrained', checkpoint='pretrain/aff-mini_in1k.pth', prefix='backbone.'
        ),
    ),
    decode_head=dict(
        in_channels=(384, 256, 128, 32),
        cell_position='none',
        pixel_decoder=dict(
            type='point',
            mask_tokens='finest',
            project_same=True,
            floor=0.0,
            eps=1e-11,
        ),
    ),
)
