"""Update rules over lists of tensors: the arithmetic of an optimizer, without its bookkeeping.

Each file holds one rule: a version that equals torch.optim's loop bit for bit, and one fused call of torch's
where torch has it. All lists of a call are parallel and share one dtype and one device; parameters and states
change in place, gradients never do.
"""
