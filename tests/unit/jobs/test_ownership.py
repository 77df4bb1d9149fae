"""Claims: one owner at a time for each runtime, and no claim keeps a runtime alive."""

import gc
import weakref

import pytest

from epochal import Runtime
from epochal.errors import HostError
from epochal.jobs.ownership import claim


def test_a_part_is_claimed_once_on_a_runtime():
    with Runtime() as rt, Runtime() as other:
        release = claim(rt, "x", "x is taken")
        claim(rt, "y", "y is taken")
        claim(other, "x", "x is taken there")
        with pytest.raises(HostError, match="x is taken already"):
            claim(rt, "x", "mine")
        release()
        again = claim(rt, "x", "x is taken again")
        release()  # its claim has ended: this one is another's
        with pytest.raises(HostError, match="x is taken again already"):
            claim(rt, "x", "mine")
        again()


def test_a_claim_keeps_no_runtime_alive():
    rt = Runtime()
    release = claim(rt, "x", "x is taken")
    rt.close()
    gone = weakref.ref(rt)
    del rt
    gc.collect()
    assert gone() is None
    release()
