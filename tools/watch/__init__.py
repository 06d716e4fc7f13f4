"""`asyncpipe tools watch`: a run seen from outside, by what it writes into its directory. No torch, and no influence.

watched = Watched(Path("runs/async-lu-20261121-154512"))   # asyncpipe.tools.watch.watched
look = watched.look()                                       # what is known now
frame(look, width=100)                                      # asyncpipe.tools.watch.frame: the lines of a screen
line(look), document(look)                                  # asyncpipe.tools.watch.line, .document: one line, JSON
"""
