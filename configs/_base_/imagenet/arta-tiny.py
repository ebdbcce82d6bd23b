# ARTA-Tiny without score predictors: one share of the tokens of every round is drawn at random,
# all of them at first and half of them at the end (DUPS appendix A).
_base_ = ['./classifier.py']
model = dict(
    backbone=dict(
        type='ARTA',
        arch='tiny',
        allocation=dict(type='RandomAllocation', schedule=(1.0, 0.5)),
        drop_path_rate=0.2,
    ),
    head=dict(in_channels=512),
)
custom_hooks = [dict(type='IterationSeedHook'), dict(type='AllocationProgressHook')]
