"""A change of plugins, from the request to the last line of its report.

The way down: `queue` begins a change, `request` reads what is asked for, `plan` lists its steps,
`executor` runs them, `retirement` takes the old generations out.
"""
