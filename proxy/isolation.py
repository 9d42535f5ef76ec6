"""Long and suspicious scripts are judged in a process of their own, which may die of them.

libpg_query overruns its stack on some inputs, and a tree of a megabyte keeps Python busy for longer than other sessions should wait. So
a script over the inline limit goes to a child process: one request and one answer at a time, each a length and a pickle. The child
has limits of memory and processor time, and a deadline here; what does not come back in time, or not at all, is held, and the child
is replaced.

What a child sends may have been written by a script that took it over, so its pickle can make nothing but the policy's own classes.

Tried and dropped: a thread (the tree's building holds the interpreter's lock for hundreds of milliseconds, and a crash ends the proxy);
concurrent.futures (one crash breaks the pool, and a stuck worker cannot be ended).
"""

from __future__ import annotations

import asyncio
import io
import pickle
import resource
import struct
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO, Final, cast

from policy import Context, Engine, Environment, Judgement, Profile
from policy.view import View

_LENGTH: Final = struct.Struct("!I")
#: A script may be 128 MiB, and its tree many times that.
MEMORY_LIMIT_BYTES: Final = 4 << 30
DEADLINE_S: Final = 10.0
#: Children at once; more would starve the sessions of this process.
CHILDREN: Final = 2

_Key = tuple[Profile, Environment, View]


class _Unpickler(pickle.Unpickler):
    """Makes classes of `policy` and nothing else."""

    def find_class(self, module: str, name: str) -> Any:  # any: pickle's own signature
        if module.partition(".")[0] != "policy" or "." in name:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return super().find_class(module, name)


def _load(data: bytes) -> object:
    return _Unpickler(io.BytesIO(data)).load()


class _Child:
    """One process; `ask` only from one task at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> _Child:
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-m", "proxy.isolation", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
        )

    async def ask(self, key: _Key, script: bytes, context: Context) -> Judgement:
        """Raises OSError, EOFError, pickle.UnpicklingError."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        request = pickle.dumps((key, script, context))
        stdin.write(_LENGTH.pack(len(request)) + request)
        await stdin.drain()
        length = _LENGTH.unpack(await stdout.readexactly(_LENGTH.size))[0]
        return cast(Judgement, _load(await stdout.readexactly(length)))

    async def end(self) -> None:
        if self._process.returncode is None:
            try:
                self._process.kill()
            except ProcessLookupError:
                pass
        await self._process.wait()


class IsolatedJudges:
    """The children, started when first needed and kept.

    Attributes:
        lost: how many died or were ended, for metrics.
    """

    def __init__(self, deadline_s: float = DEADLINE_S, children: int = CHILDREN) -> None:
        self.lost = 0
        self._deadline_s = deadline_s
        self._free: asyncio.Queue[_Child | None] = asyncio.Queue()
        for _ in range(children):
            self._free.put_nowait(None)
        self._closed = False

    async def warm(self) -> None:
        """Start one child ahead of its first script."""
        child = await self._free.get()
        self._free.put_nowait(child or await _Child.start())

    async def judge(self, engine: Engine, script: bytes, context: Context) -> Judgement:
        """Judge with an engine like this one. Raises nothing: what does not come back is held."""
        prepared: Mapping[str, tuple[Judgement, ...]] = dict(context.prepared)
        frozen = replace(context, prepared=prepared)
        child = await self._free.get()
        try:
            if self._closed:
                return engine.unanalysable("the proxy is stopping", script)
            child = child or await _Child.start()
            async with asyncio.timeout(self._deadline_s):
                judgement = await child.ask((engine.profile, engine.environment, engine.view), script, frozen)
        except TimeoutError:
            await self._lose(child)
            child = None
            return engine.unanalysable(f"its analysis took longer than {self._deadline_s:g} s", script)
        except (OSError, EOFError, pickle.UnpicklingError):
            await self._lose(child)
            child = None
            return engine.unanalysable("its analysis did not come back", script)
        except asyncio.CancelledError:
            # An answer that nobody read would be taken for the next script's.
            await self._lose(child)
            child = None
            raise
        finally:
            self._free.put_nowait(child)
        engine.remember(script, frozen, judgement)
        return judgement

    async def _lose(self, child: _Child | None) -> None:
        self.lost += 1
        if child is not None:
            await child.end()

    async def close(self) -> None:
        self._closed = True
        while not self._free.empty():
            child = self._free.get_nowait()
            if child is not None:
                await child.end()


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    engines: dict[_Key, Engine] = {}
    while len(head := requests.read(_LENGTH.size)) == _LENGTH.size:
        key, script, context = pickle.loads(requests.read(_LENGTH.unpack(head)[0]))  # from our own parent
        if key not in engines:
            engines = {key: Engine(profile=key[0], environment=key[1], view=key[2])}
        answer = pickle.dumps(engines[key].judge(script, context, isolated=True))
        answers.write(_LENGTH.pack(len(answer)) + answer)
        answers.flush()


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit()
    _serve(sys.stdin.buffer, sys.stdout.buffer)
