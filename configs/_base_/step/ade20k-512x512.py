# ADE20K in crops of 512x512 with STEP's recipe; a config adds the model.
_base_ = [
    '../datasets/ade20k-ratio_512x512.py',
    '../schedules/step_160k.py',
    '../score_runtime.py',
]
