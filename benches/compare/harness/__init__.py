"""What `run` is made of: `build` makes the programs, `place` is where they run, `ours` starts Tidings and the floors, `cases` says
what is measured, `measure` measures it, `table` makes figures of it, `results` and `picture` write them down.
"""
