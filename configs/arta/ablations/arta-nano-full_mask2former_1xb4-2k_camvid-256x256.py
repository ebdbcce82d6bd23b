# Ablation of ARTA-nano, from random initialisation: every token is always refined (4.3.1).
_base_ = ['../arta-nano_mask2former_1xb4-2k_camvid-256x256.py']
model = dict(backbone=dict(allocation=dict(_delete_=True, type='FullAllocation')))
