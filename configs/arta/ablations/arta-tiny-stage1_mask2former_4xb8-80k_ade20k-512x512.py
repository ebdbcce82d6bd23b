# Ablation of ARTA-Tiny: no refinement stage but for the round at 4 px, its depth moved to stage 1
# (4.3.4). Trained from random initialisation.
_base_ = ['../arta-tiny_mask2former_4xb8-80k_ade20k-512x512.py']
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            dims=(512, 256, 128, 64),
            num_heads=(16, 8, 4, 2),
            # The depths of stage 2 move to stage 1, and one block at 16 px for its projections.
            allocation_depths=(5, 18, 5),
            refinement_depths=(4,),
            mlp_ratio=3.0,
        ),
        init_cfg=None,
    ),
)
