"""How the runtime knows that a generation is out of use.

`lease` counts by reference, `lease_carrier` puts the lease into exports, `gate` holds calls back
while state moves, `holders` names what still refers to a lease.
"""
