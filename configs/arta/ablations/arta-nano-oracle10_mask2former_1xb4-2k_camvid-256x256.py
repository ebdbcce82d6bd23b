# Ablation of ARTA-nano, from random initialisation: true boundaries choose the tokens of 10 % of
# the training batches (4.3.3).
_base_ = ['./arta-nano-oracle100_mask2former_1xb4-2k_camvid-256x256.py']
model = dict(backbone=dict(allocation=dict(rate=0.1)))
