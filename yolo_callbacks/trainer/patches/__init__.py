"""Everything that we change in Ultralytics. Each module says what, why, how it is undone and which versions need it.

A change that is "never undone" sits on one trainer object and goes with it; only `launch.py` changes a module.
"""
