# Ablation of ARTA-nano, from random initialisation: no refinement stage but for the round at 4 px,
# its depth moved to stage 1 (4.3.4).
_base_ = ['../arta-nano_mask2former_1xb4-2k_camvid-256x256.py']
model = dict(
    backbone=dict(
        arch=dict(
            # The depths of stage 2 move to stage 1, and one block at 16 px for its projections.
            allocation_depths=(2, 5, 3),
            refinement_depths=(2,),
        )
    )
)
