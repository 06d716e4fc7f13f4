"""Updates in place: the arithmetic of optimizers, without their bookkeeping.

A file of this folder holds one rule over lists of tensors in plain torch: what CPUs run, and the reference of `fused/`,
the Triton kernels that GPUs run. Each rule equals torch.optim's loop bit for bit, with one fused call of torch's where
torch has it. All lists of a call are parallel and share one dtype and one device; parameters and states change in
place, gradients never do. `transforms.py` has what happens to a gradient before its rule, and to weights after it,
`rounding.py` how bfloat16 weights are rounded at random.
"""
