"""Invariants of a schedule, one file per group of codes; each adds its findings to a report."""
