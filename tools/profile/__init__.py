"""`asyncpipe tools profile`: what a schedule's streams really do, and how near the simulator comes to it.

session = measure(ProfileRequest(schedule, job))       # asyncpipe.tools.profile.session: trains, timed
profile = profile_of(session)                          # asyncpipe.tools.profile.profile: all that it shows
write_profile(folder, session, profile)                # asyncpipe.tools.profile.files: profile.json, timeline.csv
costs = read_measured_costs("profile.json")            # without torch: costs, overheads, workers
predict(program, costs.seconds, costs.workers).period  # asyncpipe.analysis.prediction
"""
