# SegViT with ViT-B/16: attention-to-mask head cascaded over three stages.
_base_ = ['./segmentor.py']
data_preprocessor = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='StepViT',
        arch='base',
        img_size=512,
        out_indices=(5, 7, 11),
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            # the weights of stock Segmenter; positions are resized on loading
            checkpoint='https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/segmenter/vit_base_p16_384_20220308-96dfe169.pth',
        ),
    ),
    decode_head=dict(
        type='ATMHead',
        in_channels=768,
        channels=384,
        num_classes=150,
        num_layers=3,
        num_heads=12,
        loss=dict(class_weight=1.0, mask_weight=20.0, dice_weight=1.0, no_object_weight=0.1),
    ),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
