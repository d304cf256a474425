"""Everything that is changed in Ultralytics: each module says what, why, how it is undone and where it is needed.

Whatever is "never undone" sits on one trainer object and goes with it; only `launch.py` changes a module.
"""
