"""Small concurrent programs of the core, run under every schedule that a bound allows."""
