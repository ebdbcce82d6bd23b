# The recipe of Mask2Former's decoder; a model adds the backbone and the kind of pixel decoder.
_base_ = ['./segmentor.py']
model = dict(
    decode_head=dict(
        type='SparseMask2FormerHead',
        num_classes=150,
        dim=256,
        num_queries=100,
        pixel_decoder=dict(num_layers=6, num_heads=8, hidden=1024),
        transformer_decoder=dict(num_layers=9, num_heads=8, hidden=2048),
        criterion=dict(class_weight=2.0, mask_weight=5.0, dice_weight=5.0, no_object_weight=0.1),
    ),
)
