# A small ARTA with a small Mask2Former decoder that trains on a CPU, from random initialisation.
_base_ = ['./arta-nano_segformer_1xb4-2k_camvid-256x256.py']
model = dict(
    neck=None,
    decode_head=dict(
        _delete_=True,
        type='SparseMask2FormerHead',
        in_channels=(160, 128, 96, 64),
        num_classes=11,
        dim=128,
        num_queries=40,
        # Offsets count each level's own patches, as in Deformable DETR.
        pixel_decoder=dict(
            type='point', num_layers=3, num_heads=4, hidden=256, offset_units=(8, 4, 2)
        ),
        transformer_decoder=dict(num_layers=6, num_heads=4, hidden=512),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
tta_model = dict(type='ScoreTTAModel')
