"""The ops as PyTorch knows them: ``torch.ops.mmseg_arta``.

Each one is defined once: schema, shapes of its results for ``torch.compile`` and export, gradients,
and FLOP formulas. Its last argument names the back end, whose function starts the kernels.
"""
