# Cityscapes in crops of 512x512 with STEP's recipe; a config adds the model.
_base_ = [
    '../datasets/cityscapes-ratio_512x512.py',
    '../schedules/step_90k.py',
    '../score_runtime.py',
]
