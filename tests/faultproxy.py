"""A proxy in front of an S3 server that fails on a seeded script.

Faults of requests that write: the reply is lost after the server has done the
work, 503 SlowDown or 500 before or after it, a stall, a connection cut half-way
through the upload. What it does is decided by the seed and the request's
number alone.
"""

import asyncio
import random
import re
import threading

SLOW_DOWN = b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>%s</Code><Message>injected</Message></Error>"


class Proxy:
    """Answers connections on a loopback port, in a thread of its own, until it is stopped."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        started.wait()

    def _run(self, started):
        async def serve():
            self.server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=1 << 20)
            self.port = self.server.sockets[0].getsockname()[1]
            self.endpoint = f"http://127.0.0.1:{self.port}"
            started.set()

        self.loop.run_until_complete(serve())
        self.loop.run_forever()

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.run_until_complete(self._close())
        self.loop.close()

    async def _close(self):
        self.server.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


class FaultProxy(Proxy):
    """`faults` counts what was injected."""

    KINDS = ("lost_reply", "slow_down", "internal_error", "error_after_write", "stall", "cut_upload")

    def __init__(self, upstream, seed, rate=0.3, stall_seconds=0.4):
        host, port = upstream.removeprefix("http://").split(":")
        self.upstream = (host, int(port))
        self.random = random.Random(seed)
        self.rate = rate
        self.stall_seconds = stall_seconds
        self.faults = dict.fromkeys(self.KINDS, 0)
        self.requests = 0
        self.hold = False
        super().__init__()

    async def _connection(self, reader, writer):
        try:
            while await self._request(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _request(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        line, headers = parse(head)
        if b"expect" in headers:
            # Answered here, and not passed on: the server would answer it again.
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = re.sub(rb"(?i)\r\nexpect:[^\r]*", b"", head)
        body = await read_body(reader, headers)
        while self.hold:
            await asyncio.sleep(0.05)
        self.requests += 1
        method = line.split(b" ")[0]
        fault = None
        if method in (b"PUT", b"POST") and self.random.random() < self.rate:
            fault = self.random.choice(self.KINDS)
            self.faults[fault] += 1
        if fault == "slow_down":
            return await answer(writer, 503, SLOW_DOWN % b"SlowDown")
        if fault == "internal_error":
            return await answer(writer, 500, SLOW_DOWN % b"InternalError")
        if fault == "stall":
            await asyncio.sleep(self.stall_seconds)
        reply = await self._forward(head, body, cut=fault == "cut_upload")
        if fault in ("lost_reply", "cut_upload") or reply is None:
            return False
        if fault == "error_after_write":
            return await answer(writer, 500, SLOW_DOWN % b"InternalError")
        writer.write(reply)
        await writer.drain()
        return True

    async def _forward(self, head, body, cut):
        """One connection per request: the whole reply, or None if it was cut."""
        reader, writer = await asyncio.open_connection(*self.upstream, limit=1 << 20)
        try:
            if cut:
                writer.write(head + body[: len(body) // 2])
                await writer.drain()
                return None
            writer.write(head + body)
            await writer.drain()
            reply_head = await reader.readuntil(b"\r\n\r\n")
            status = int(reply_head.split(b" ", 2)[1])
            _, headers = parse(reply_head)
            if head.startswith(b"HEAD ") or status in (204, 304):
                return reply_head
            return reply_head + await read_body(reader, headers)
        finally:
            writer.close()


def parse(head):
    lines = head.rstrip(b"\r\n").split(b"\r\n")
    pairs = (line.split(b":", 1) for line in lines[1:])
    return lines[0], {name.strip().lower(): value.strip() for name, value in pairs}


async def read_body(reader, headers):
    """The body as it is on the wire."""
    if b"chunked" in headers.get(b"transfer-encoding", b"").lower():
        body = b""
        while True:
            size_line = await reader.readuntil(b"\r\n")
            size = int(size_line.split(b";")[0], 16)
            body += size_line + await reader.readexactly(size + 2)
            if size == 0:
                return body
    return await reader.readexactly(int(headers.get(b"content-length", b"0")))


async def answer(writer, status, body):
    writer.write(
        b"HTTP/1.1 %d Injected\r\ncontent-type: application/xml\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
    )
    writer.write(body)
    await writer.drain()
    return True
