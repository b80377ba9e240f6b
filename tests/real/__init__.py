"""A real benchmark, and a world in a process of its own, for Undercroft's tests.

`dojo` is the door to the four task suites of the package `agentdojo`, `effects`
says what each of their tools reads and changes, `world` is a process that owns
such an environment and counts what is done to it, `client` talks to it.

`bindings` makes tools of Undercroft of all that, `turn` runs turns of them in
processes that may be killed, `trial` says what must be true of such a turn, `order` in
which order its calls may come, `journals` what its journal must not prove.

`races` runs the calls of a task as one batch, in virtual time and with every latency.
"""
