"""The subcommands of `epochal`, a file each."""
