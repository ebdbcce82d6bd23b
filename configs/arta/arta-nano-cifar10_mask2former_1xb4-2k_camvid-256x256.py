# The small ARTA with Mask2Former, pre-trained on CIFAR-10: all of it on a CPU.
_base_ = ['./arta-nano_mask2former_1xb4-2k_camvid-256x256.py']
model = dict(
    backbone=dict(
        init_cfg=dict(
            _delete_=True,
            type='Pretrained',
            checkpoint='pretrain/arta-nano_cifar10.pth',
            prefix='backbone.',
        ),
    ),
)
