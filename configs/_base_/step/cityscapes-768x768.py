# Cityscapes in crops of 768x768 with STEP's recipe; a config adds the model.
_base_ = [
    '../datasets/cityscapes-ratio_768x768.py',
    '../schedules/step_90k.py',
    '../score_runtime.py',
]
