"""Exact statements about a schedule before it runs: staleness, times, bounds."""
