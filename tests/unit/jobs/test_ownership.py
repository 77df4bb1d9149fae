"""Claims: one at a time for each runtime, and none that keeps a runtime."""

import gc
import weakref

import pytest

from epochal import Runtime
from epochal.errors import HostError
from epochal.jobs.ownership import claim


def test_what_is_claimed_is_claimed_once_on_a_runtime():
    with Runtime() as one, Runtime() as other:
        release = claim(one, "x", "x is taken")
        claim(one, "y", "y is taken")
        claim(other, "x", "x is taken there")
        with pytest.raises(HostError, match="x is taken already"):
            claim(one, "x", "mine")
        release()
        again = claim(one, "x", "x is taken again")
        release()  # is over: the other's claim is not its own
        with pytest.raises(HostError, match="x is taken again already"):
            claim(one, "x", "mine")
        again()


def test_a_claim_keeps_no_runtime():
    rt = Runtime()
    release = claim(rt, "x", "x is taken")
    rt.close()
    gone = weakref.ref(rt)
    del rt
    gc.collect()
    assert gone() is None
    release()
