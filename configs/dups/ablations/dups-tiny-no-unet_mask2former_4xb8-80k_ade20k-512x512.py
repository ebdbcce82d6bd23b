# Ablation of DUPS-Tiny: only the ascending path, with the depth of the descending one (table 5).
# Trained from random initialisation.
_base_ = ['../dups-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            dims=(512, 256, 128, 64),
            num_heads=(16, 8, 4, 2),
            # The depths of both paths, and one block at 16 px for the fusing projections.
            allocation_depths=(5, 18, 5),
            refinement_depths=(4,),
            mlp_ratio=3.0,
        ),
        init_cfg=None,
    ),
)
