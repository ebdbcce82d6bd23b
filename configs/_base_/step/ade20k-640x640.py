# ADE20K in crops of 640x640 with STEP's recipe; a config adds the model.
_base_ = [
    '../datasets/ade20k-ratio_640x640.py',
    '../schedules/step_160k.py',
    '../score_runtime.py',
]
