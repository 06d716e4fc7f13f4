"""What runs on the GPU: functions of Triton, and nothing else. Types are the kernels': pointers, blocks, constants."""
