# DUPS-Tiny with the point-based Mask2Former decoder; thresholds and caps of ADE20K (DUPS table 8).
_base_ = ['./arta-tiny_mask2former.py']
model = dict(
    backbone=dict(
        type='DUPS',
        allocation=dict(
            _delete_=True,
            type='BatchRatioAllocation',
            thresholds=(0.01, 0.02, 0.04),
            caps=(0.85, 0.7, 0.6),
            floor=0.1,
        ),
        init_cfg=dict(checkpoint='pretrain/dups-tiny_in1k.pth'),
    ),
)
