import asyncio

from sendward.controller.queue import WORKERS, Priority, WorkQueue


async def test_urgent_work_does_not_wait_for_steps_that_hang() -> None:
    """Vault does not answer, and more steps wait for it than there are workers."""
    queue, released = WorkQueue(), asyncio.Event()

    async def hangs() -> None:
        await released.wait()

    for _ in range(2 * WORKERS):
        queue.put(Priority.ISSUE, hangs)
    working = asyncio.create_task(queue.run())
    await asyncio.sleep(0)
    done: list[Priority] = []
    for priority in (Priority.DOCUMENT, Priority.REVOKE):

        async def note(priority: Priority = priority) -> None:
            done.append(priority)

        queue.put(priority, note)
    async with asyncio.timeout(10):
        while len(done) < 2:  # noqa: ASYNC110 - of other tasks
            await asyncio.sleep(0)
    waiting = queue.length
    released.set()
    async with asyncio.timeout(10):
        while queue.length:  # noqa: ASYNC110 - of other tasks
            await asyncio.sleep(0)
    working.cancel()
    assert done == [Priority.REVOKE, Priority.DOCUMENT]
    assert WORKERS <= waiting < 2 * WORKERS


async def test_each_job_is_done_once_the_urgent_first() -> None:
    queue = WorkQueue()
    done: list[int] = []
    for number, priority in enumerate((Priority.STATUS, Priority.ISSUE, Priority.REVOKE, Priority.DOCUMENT)):

        async def note(number: int = number) -> None:
            done.append(number)

        queue.put(priority, note)
    while queue.length:
        await queue.work_one()
    assert done == [2, 3, 1, 0]
    for number in range(200):

        async def again(number: int = number) -> None:
            done.append(number)

        queue.put(Priority.REVOKE if number % 2 else Priority.ISSUE, again)
    working = asyncio.create_task(queue.run())
    async with asyncio.timeout(10):
        while len(done) < 204:  # noqa: ASYNC110 - of other tasks
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    working.cancel()
    assert sorted(done[4:]) == list(range(200))
    assert queue.length == 0
