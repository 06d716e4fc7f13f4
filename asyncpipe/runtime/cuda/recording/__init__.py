"""CUDA's rules on a CPU: streams, events, captures and the caching allocator, with real tensors and real operations."""
