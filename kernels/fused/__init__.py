"""Triton kernels that update a whole stage in place with one launch, without locks.

`launch.py` is the door. `device/update.py` is the kernel: load, math, store; `device/norm.py` the first of the two
launches of a clip; `device/rules.py` the optimizers. `options.py`, `scalars.py`, `buffers.py` and `table.py` say what
a launch gets, `grid.py` how it is divided, `compiled.py` compiles without a device. The same updates in plain torch lie
one folder up.
"""
