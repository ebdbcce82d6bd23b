# LRFormer-T+: Mask2Former's decoder with its standard pixel decoder (section 4.5).
_base_ = ['./lrformer-t.py']
model = dict(
    backbone=dict(drop_path_rate=0.2),
    decode_head=dict(
        _delete_=True,
        type='SparseMask2FormerHead',
        in_channels=(384, 240, 96, 48),
        num_classes=150,
        dim=256,
        num_queries=100,
        cell_position='none',
        pixel_decoder=dict(type='grid', num_layers=6, num_heads=8, hidden=1024),
        transformer_decoder=dict(num_layers=9, num_heads=8, hidden=2048),
        criterion=dict(class_weight=2.0, mask_weight=5.0, dice_weight=5.0, no_object_weight=0.1),
    ),
)
