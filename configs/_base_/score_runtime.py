# Runtime of models that predict scores of classes instead of logits (mask classification).
_base_ = ['./default_runtime.py']
tta_model = dict(type='ScoreTTAModel')
