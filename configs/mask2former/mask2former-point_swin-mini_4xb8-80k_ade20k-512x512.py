# Mask2Former with the Swin-Mini of AutoFocusFormer's table 3 on ADE20K: the point pixel decoder.
_base_ = ['./mask2former_swin-mini_4xb8-80k_ade20k-512x512.py']
model = dict(
    decode_head=dict(
        pixel_decoder=dict(
            type='point', mask_tokens='finest', project_same=True, floor=0.0, eps=1e-11
        ),
    ),
)
