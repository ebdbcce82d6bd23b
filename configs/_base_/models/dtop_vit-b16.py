# Dynamic token pruning with ViT-B/16: confident tokens stop at two halting points.
_base_ = ['./segvit_vit-b16.py']
halting_head = dict(
    in_channels=768,
    channels=384,
    num_heads=12,
    num_classes=150,
    num_layers=3,
    # STEP's heads are those of its baseline; DToP's own configs switch it on
    self_attention=False,
)
model = dict(
    backbone=dict(
        out_indices=(11,),
        halting=dict(
            after=(6, 8),
            head=dict(type='ATMTokenClassifier', **halting_head),
            policy=dict(type='ConfidenceHalting', threshold=0.9, keep_per_class=5),
        ),
    ),
    decode_head=dict(_delete_=True, type='HaltingATMHead', **halting_head),
)
