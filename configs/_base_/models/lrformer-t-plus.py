# LRFormer-T+: Mask2Former's decoder with its standard pixel decoder (section 4.5). The backbone
# starts from ImageNet-1K weights in our layout, see configs/lrformer.
_base_ = ['./mask2former.py']
norm_cfg = dict(type='SyncBN', requires_grad=True)
pretrained = 'pretrain/lrformer-t_in1k.pth'
model = dict(
    backbone=dict(
        type='LRFormer',
        arch='tiny',
        pooled_size=16,
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.'),
    ),
    decode_head=dict(
        in_channels=(384, 240, 96, 48),
        cell_position='none',
        pixel_decoder=dict(type='grid'),
    ),
)
