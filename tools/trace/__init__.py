"""`asyncpipe tools trace`: the measured timeline of a run for Perfetto and chrome://tracing.

measured = measure_run(request, steps)          # asyncpipe.tools.trace.measuring: trains, timed
measured = read_recorded(folder)                # asyncpipe.tools.trace.recorded: of `tools profile`, without torch
events = trace_events(measured, window)         # asyncpipe.tools.trace.events
write_trace(path, events, about)                # asyncpipe.tools.trace.file
"""
