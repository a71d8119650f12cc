"""A QEMU as a controller sees it over QMP: `query-migrate` answers by a script."""

import asyncio
import copy
import json
import threading
from contextlib import asynccontextmanager, contextmanager, suppress

MIB = 1 << 20
PARAMETERS = {
    "downtime-limit": 300, "max-bandwidth": 128 * MIB, "cpu-throttle-initial": 20,
    "cpu-throttle-increment": 10, "max-cpu-throttle": 99, "throttle-trigger-threshold": 50,
}  # fmt: skip
CAPABILITIES = ("events", "postcopy-ram", "auto-converge", "background-snapshot",
                "pause-before-switchover")  # fmt: skip


def active(number, remaining, at_s=1.0, mbps=800.0, **more):
    """100 MB/s by default."""
    ram = {"dirty-sync-count": number, "remaining": remaining, "transferred": 0, "mbps": mbps,
           "page-size": 4096}  # fmt: skip
    return {"status": "active", "total-time": int(at_s * 1000), "ram": ram, **more}


def completed(at_s=2.0, downtime_ms=200):
    return {"status": "completed", "total-time": int(at_s * 1000), "downtime": downtime_ms,
            "ram": {"dirty-sync-count": 9, "transferred": 5 * MIB}}  # fmt: skip


async def _objects(reader):
    """A client need not end its lines, and QEMU does not ask it to."""
    text = ""
    while piece := await reader.read(1 << 16):
        text += piece.decode()
        with suppress(ValueError):
            while text := text.lstrip():
                said, end = json.JSONDecoder().raw_decode(text)
                text = text[end:]
                yield said


class FakeQemu:
    """Serves one client at a time. A step of the script is an answer, or a function of the fake
    that returns one; the last is repeated. `log` has the commands that change anything."""

    def __init__(self, *script, version=(7, 2, 0), before=None, status="running"):
        self.script = list(script) or [completed()]
        self.version, self.status = version, status
        self.said_before = before or {}
        self.parameters = dict(PARAMETERS)
        self.capabilities = dict.fromkeys(CAPABILITIES, False)
        self.started = self.is_silent = self.emulates = False
        self.log = []
        self.refuse = {}
        self.writer = None

    def limits(self):
        """That were set, in ms, in their order."""
        return [a["downtime-limit"] for name, a in self.log
                if name == "migrate-set-parameters" and "downtime-limit" in a]  # fmt: skip

    def names(self):
        return [name for name, _ in self.log]

    @asynccontextmanager
    async def serving(self, path):
        busy = asyncio.Lock()

        async def serve(reader, writer):
            async with busy:
                self.writer, self.is_silent = writer, False
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    await self._serve(reader, writer)
                writer.close()

        server = await asyncio.start_unix_server(serve, path)
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader, writer):
        version = dict(zip(("major", "minor", "micro"), self.version, strict=True))
        self._send(writer, QMP={"version": {"qemu": version, "package": ""}, "capabilities": []})
        async for said in _objects(reader):
            name, arguments = said["execute"], said.get("arguments", {})
            answer = {"id": said["id"]} if "id" in said else {}
            if self.is_silent:
                continue
            if name in self.refuse:
                error = {"class": "GenericError", "desc": self.refuse[name]}
                self._send(writer, **answer, error=error)
            else:
                result = self._do(name, arguments)
                if result is not None:
                    self._send(writer, **answer, **{"return": result})
            await writer.drain()

    def _send(self, writer, **message):
        writer.write(json.dumps(message).encode() + b"\r\n")

    def _do(self, name, arguments):
        if name == "query-migrate":
            return self._migration()
        version = dict(zip(("major", "minor", "micro"), self.version, strict=True))
        states = [{"capability": k, "state": v} for k, v in self.capabilities.items()]
        facts = {
            "query-version": {"qemu": version, "package": ""},
            "query-kvm": {"enabled": not self.emulates, "present": True},
            "query-status": {"status": self.status, "running": self.status == "running"},
            "query-migrate-parameters": copy.copy(self.parameters),
            "query-migrate-capabilities": states,
            "query-memory-size-summary": {"base-memory": 64 * MIB, "plugged-memory": 0},
        }
        if name in facts:
            return facts[name]
        if name != "qmp_capabilities":
            self.log.append((name, arguments))
        if name == "migrate-set-parameters":
            self.parameters |= arguments
        elif name == "migrate-set-capabilities":
            for one in arguments["capabilities"]:
                self.capabilities[one["capability"]] = one["state"]
        elif name == "migrate":
            self.started = True
        elif name == "migrate_cancel":
            self.script = [{"status": "cancelled"}]
        return {}

    def _migration(self):
        if not self.started:
            return self.said_before
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return step(self) if callable(step) else step

    @contextmanager
    def in_thread(self, path):
        """For who runs a loop of their own."""
        loop = asyncio.new_event_loop()
        is_up, is_over = threading.Event(), asyncio.Event()

        async def run():
            async with self.serving(path):
                is_up.set()
                await is_over.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
        thread.start()
        is_up.wait()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(is_over.set)
            thread.join()
            loop.close()

    def hang_up(self):
        self.writer.close()
