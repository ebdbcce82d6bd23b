# COCO-Stuff 10k in crops of 512x512 with STEP's recipe; a config adds the model.
_base_ = [
    '../datasets/coco-stuff10k-ratio_512x512.py',
    '../schedules/step_80k.py',
    '../score_runtime.py',
]
