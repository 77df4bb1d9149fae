"""The demonstration: analytical SQL over real flights while its plugins are swapped under it.

It is an argument, not a show: every claim that its report makes is checked by the queries
themselves (see `epochal.demo.checks`), and it fails if one check fails.
"""
