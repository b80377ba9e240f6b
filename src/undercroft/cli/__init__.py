"""The command line: a thin face on the runtime and on the read side.

Results go to stdout, progress and complaints to stderr. Exit codes: 0 done or clean, 1 findings
or a turn that failed or is in doubt, 2 could not run.
"""
