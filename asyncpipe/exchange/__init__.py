"""Schedules to and from the forms of other programs."""
