# LRFormer-T on COCO-Stuff 164k.
_base_ = [
    '../_base_/models/lrformer-t.py',
    '../_base_/datasets/coco-stuff164k-ratio_512x512.py',
    '../_base_/schedules/lrformer_80k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=171),
)
