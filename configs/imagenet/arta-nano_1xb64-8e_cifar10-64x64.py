# The small ARTA of configs/arta that trains on a CPU, on CIFAR-10.
_base_ = [
    '../_base_/imagenet/arta-tiny.py',
    '../_base_/imagenet/cifar10_64x64.py',
    '../_base_/imagenet/adamw_8e.py',
]
train_dataloader = dict(batch_size=64)
data_preprocessor = dict(num_classes=10)
# the backbone of arta-nano_mask2former_1xb4-2k_camvid-256x256
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            dims=(160, 128, 96, 64),
            num_heads=(5, 4, 3, 2),
            allocation_depths=(1, 1, 1),
            refinement_depths=(2, 2, 3, 1),
            mlp_ratio=2.0,
        ),
        drop_path_rate=0.0,
    ),
    head=dict(in_channels=160, num_classes=10),
    train_cfg=dict(augments=None),
)
# Layers whose inputs add up, as in the config of CamVid.
slow = dict(lr_mult=0.1)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'attn.pos_embed': slow, 'image_mlp.0': slow}),
    clip_grad=dict(max_norm=1.0),
)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=1, max_keep_ckpts=1))
