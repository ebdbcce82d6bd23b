# Dynamic token pruning with ViT-L/16: confident tokens stop at two halting points.
_base_ = ['./segvit_vit-l16.py']
halting_head = dict(
    in_channels=1024,
    channels=512,
    num_heads=16,
    num_classes=150,
    num_layers=3,
    # STEP's heads are those of its baseline; DToP's own configs switch it on
    self_attention=False,
)
model = dict(
    backbone=dict(
        out_indices=(23,),
        halting=dict(
            after=(8, 16),
            head=dict(type='ATMTokenClassifier', **halting_head),
            policy=dict(type='ConfidenceHalting', threshold=0.9, keep_per_class=5),
        ),
    ),
    decode_head=dict(_delete_=True, type='HaltingATMHead', **halting_head),
)
