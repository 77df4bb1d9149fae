"""The fetcher's thread ends once, after the work that it awaits."""

import asyncio
import threading

from epochal.sql.off_thread import BatchFetcher


def test_closing_a_fetcher_again_lets_its_work_end():
    begun, gate, ended = threading.Event(), threading.Event(), threading.Event()

    async def work():
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            while not gate.is_set():
                await asyncio.sleep(0.001)
            ended.set()

    fetcher = BatchFetcher()
    fetcher._running_loop().submit(work())
    assert begun.wait(10)
    for _ in range(20):  # each used to stop the loop, under the work that was ending
        fetcher.close(0.005)
    gate.set()
    fetcher.close(10.0)
    assert ended.is_set()
    assert not fetcher._running_loop().thread.is_alive()
