# Cityscapes in crops of 1024x1024 with STEP's recipe; a config adds the model.
_base_ = [
    '../datasets/cityscapes-ratio_1024x1024.py',
    '../schedules/step_90k.py',
    '../score_runtime.py',
]
