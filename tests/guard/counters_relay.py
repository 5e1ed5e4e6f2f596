"""A TCP relay before a real Redis, by which a test makes it slow."""

import asyncio

from tests.guard.counters_guard import PORT


class Relay:
    """Before Redis: what is asked goes on at once, each answer `delay` seconds after it came."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        redis, questions = await asyncio.open_connection("127.0.0.1", PORT)
        for task in (
            asyncio.create_task(self._pass(client, questions, late=False)),
            asyncio.create_task(self._pass(redis, answers, late=True)),
        ):
            self._tasks.add(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        try:
            while data := await reader.read(65536):
                if late:
                    await asyncio.sleep(self.delay)
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()
