"""One of something for each runtime."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from epochal import Runtime
from epochal.errors import HostError
from epochal.jobs.claims import claim


def test_whoever_is_first_has_it_until_he_lets_it_go():
    with Runtime() as rt, Runtime() as other:
        release = claim(rt, "jobs", taken="somebody has it")
        with pytest.raises(HostError, match="somebody has it"):
            claim(rt, "jobs", taken="somebody has it")
        claim(rt, "streams", taken="")
        claim(other, "jobs", taken="")
        release()
        again = claim(rt, "jobs", taken="")
        release()  # not his any more
        with pytest.raises(HostError):
            claim(rt, "jobs", taken="still")
        again()


def test_of_many_at_once_one_has_it():
    start = Barrier(8)

    def one(rt):
        start.wait(10)
        try:
            claim(rt, "jobs", taken="")
        except HostError:
            return False
        return True

    with Runtime() as rt, ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, [rt] * 8)) == 1


def test_a_claim_keeps_no_runtime_alive():
    rt = Runtime()
    release = claim(rt, "jobs", taken="")
    rt.close()
    gone = weakref.ref(rt)
    del rt
    gc.collect()
    assert gone() is None
    release()
