# Ablation of ARTA-nano, from random initialisation: no loss on the scores, which learn from the
# segmentation loss alone, through the straight-through gradient of the published code.
_base_ = ['../arta-nano_mask2former_1xb4-2k_camvid-256x256.py']
model = dict(auxiliary_head=None, backbone=dict(straight_through=True))
