"""How the runtime knows that a generation is out of use.

`lease` is the token of a use, carried by exports; `drain_wakeup` wakes the drain after the last
one, `gate` holds calls back while state moves, `holders` names what still refers to a lease.
"""
