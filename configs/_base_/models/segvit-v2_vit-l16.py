# The lighter second version of SegViT's head with ViT-L/16: the baseline of DToP and STEP.
_base_ = ['./segvit_vit-l16.py']
model = dict(
    decode_head=dict(self_attention=False, classes='presence'),
)
