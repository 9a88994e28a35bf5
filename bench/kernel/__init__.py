"""What bench_kernel.py measures: a module for each section, and the rules they share.

`goal` says how far, `arrivals` checks what came, `contest` takes the rounds, `report` shows them.
"""
