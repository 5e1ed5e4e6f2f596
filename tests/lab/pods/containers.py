"""One container: its process, its probes, its restarts and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from tests.lab.images import Image, code_paths
from tests.lab.pods import env, probes
from tests.lab.pods.launch import Launch, Mount
from tests.lab.pods.network import Namespace, Result
from tests.lab.pods.status import ContainerState, running, terminated, waiting

log = logging.getLogger(__name__)

RestartPolicy = Literal["Always", "OnFailure", "Never"]
LAUNCHER: Final = Path(__file__).with_name("launch.py")
CONFIG_RETRY: Final = 0.5  # seconds
FIRST_DELAY: Final = 0.5  # seconds, before the second restart in a row; doubles up to the cap


def timestamp() -> str:
    """Now, as the Kubernetes API writes times."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass
class Surroundings:
    """What a container gets from its pod."""

    pod: dict[str, Any]  # as the API server has it, with status.podIP
    namespace: Namespace
    folder: Path
    log_folder: Path
    volume_path: Callable[[str], Path]
    files: Mapping[str, Path]  # mounted into every container, by path in the container
    service_env: Mapping[str, str]
    source: env.Source
    backoff_cap: float  # seconds
    changed: Callable[[], None]


class Container:
    """Life of one container of one pod.

    `passed` is set once it has started (and its startup probe, if any, has succeeded), `ended` when
    it has no process and will get none.
    """

    def __init__(
        self, spec: Mapping[str, Any], state: ContainerState, image: Image, around: Surroundings
    ) -> None:
        self.state = state
        self.passed = asyncio.Event()
        self.ended = asyncio.Event()
        self._spec = spec
        self._image = image
        self._around = around
        self._process: asyncio.subprocess.Process | None = None
        self._started_at = ""
        self._environment: dict[str, str] = {}
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def log_path(self) -> Path:
        meta = self._around.pod["metadata"]
        return self._around.log_folder / f"{meta['namespace']}_{meta['name']}_{self.name}.log"

    def pid(self) -> int:
        """Process id as seen from the runner. Raises LookupError when no process runs."""
        if self._process is None:
            raise LookupError(f"container {self.name} is not running")
        return self._process.pid

    def start(self, policy: RestartPolicy) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._run(policy), name=f"container {self.name}")

    def kill(self) -> None:
        """SIGKILL without a restart."""
        self._stopping.set()
        if self._process is not None:
            self._signal(signal.SIGKILL)

    async def stop(self, deadline: float) -> None:
        """End for good: preStop, SIGTERM, and SIGKILL at `deadline` (loop time)."""
        if self._task is None:
            self.ended.set()
            return
        self._stopping.set()
        await self._terminate(deadline)
        await self.ended.wait()

    def replace_pod(self, pod: dict[str, Any]) -> None:
        """Take in changed labels and annotations, for the next start."""
        self._around.pod = pod

    async def execute(self, argv: Sequence[str]) -> Result:
        """Run a program inside the running container, with its user and environment."""
        launch = self._launch(list(argv), join=self.pid())
        process = await spawn(launch, asyncio.subprocess.PIPE)
        try:
            stdout, stderr = await process.communicate()
        finally:
            kill_group(process)
            await process.wait()
        return Result(process.returncode or 0, stdout, stderr)

    async def _run(self, policy: RestartPolicy) -> None:
        delay = 0.0
        try:
            while not self._stopping.is_set():
                began = asyncio.get_running_loop().time()
                code = await self._live_once()
                if code is None:
                    continue
                if self._stopping.is_set() or policy == "Never" or (policy == "OnFailure" and code == 0):
                    break
                if asyncio.get_running_loop().time() - began > 10 * self._around.backoff_cap:
                    delay = 0.0
                await self._back_off(delay)
                delay = min(self._around.backoff_cap, delay * 2 or FIRST_DELAY)
        finally:
            self.ended.set()
            self._around.changed()

    async def _back_off(self, delay: float) -> None:
        self.state.last_state = self.state.state
        self.state.state = waiting("CrashLoopBackOff", f"back-off {delay:g}s restarting failed container")
        self.state.restarts += 1
        self._around.changed()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay)

    async def _live_once(self) -> int | None:
        """Start the process, attend to it and return its exit code; None when it cannot be made yet."""
        try:
            variables = env.environment(
                self._around.pod, self._spec, self._image, self._around.service_env, self._around.source
            )
            self._environment = variables
            launch = self._launch(env.argv(self._spec, self._image, variables), join=None)
        except env.ConfigError as error:
            self.state.state = waiting("CreateContainerConfigError", str(error))
            self._around.changed()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), CONFIG_RETRY)
            return None
        process = await self._begin(launch)
        attending = asyncio.create_task(self._attend(), name=f"probes of {self.name}")
        code = await process.wait()
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)
        self._finish(process, code)
        return code

    async def _begin(self, launch: Launch) -> asyncio.subprocess.Process:
        descriptor = os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            process = await spawn(launch, descriptor)
        finally:
            os.close(descriptor)
        self._process = process
        self._started_at = timestamp()
        self.state.container_id = f"lab://{uuid.uuid4().hex}"
        self.state.state = running(self._started_at)
        self._around.changed()
        if self._stopping.is_set():  # while it was being started
            self._signal(signal.SIGKILL)
        return process

    def _finish(self, process: asyncio.subprocess.Process, code: int) -> None:
        kill_group(process)  # whatever the container left behind
        self._process = None
        self.state.state = terminated(code, self._started_at, timestamp(), self.state.container_id)
        self.state.started = False
        self.state.ready = self.state.role == "init" and code == 0
        self._around.changed()

    async def _attend(self) -> None:
        startup = self._spec.get("startupProbe")
        if startup and not await self._until_verdict(startup, "startup"):
            return
        self.state.started = True
        self.state.ready = self.state.role != "init" and "readinessProbe" not in self._spec
        self.passed.set()
        self._around.changed()
        async with asyncio.TaskGroup() as group:
            if readiness := self._spec.get("readinessProbe"):
                group.create_task(self._readiness(readiness))
            if liveness := self._spec.get("livenessProbe"):
                group.create_task(self._until_verdict(liveness, "liveness"))

    async def _until_verdict(self, probe: Mapping[str, Any], kind: Literal["startup", "liveness"]) -> bool:
        """Probe until a startup probe succeeds (True) or too many failures end the container (False)."""
        await asyncio.sleep(probes.setting(probe, "initialDelaySeconds"))
        failures = 0
        while True:
            good = await self._probe(probe)
            if good and kind == "startup":
                return True
            failures = 0 if good else failures + 1
            if failures >= probes.setting(probe, "failureThreshold") and not self._stopping.is_set():
                break
            await asyncio.sleep(probes.setting(probe, "periodSeconds"))
        log.info("container %s: %s probe failed %d times, restarting", self.name, kind, failures)
        grace = probe.get("terminationGracePeriodSeconds") or self._around.pod["spec"].get(
            "terminationGracePeriodSeconds", 30
        )
        await self._terminate(asyncio.get_running_loop().time() + float(grace))
        return False

    async def _readiness(self, probe: Mapping[str, Any]) -> None:
        await asyncio.sleep(probes.setting(probe, "initialDelaySeconds"))
        same, last = 0, False
        while True:
            good = await self._probe(probe)
            same = same + 1 if good == last else 1
            last = good
            needed = probes.setting(probe, "successThreshold" if good else "failureThreshold")
            if same >= needed and self.state.ready != good:
                self.state.ready = good
                self._around.changed()
            await asyncio.sleep(probes.setting(probe, "periodSeconds"))

    async def _probe(self, probe: Mapping[str, Any]) -> bool:
        return await probes.once(probe, self._spec, self._around.namespace.address, self._execute_code)

    async def _execute_code(self, argv: Sequence[str]) -> int:
        return (await self.execute(argv)).code

    async def _terminate(self, deadline: float) -> None:
        """preStop, SIGTERM, SIGKILL at the deadline. Returns when the process has ended."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(TimeoutError, LookupError):
            async with asyncio.timeout_at(deadline):
                await self._pre_stop()
                self._signal(signal.SIGTERM)
                await process.wait()
        if process.returncode is None:
            self._signal(signal.SIGKILL)
            await process.wait()

    async def _pre_stop(self) -> None:
        handler = (self._spec.get("lifecycle") or {}).get("preStop")
        if handler is None:
            return
        if "sleep" in handler:
            await asyncio.sleep(float(handler["sleep"]["seconds"]))
        elif not await probes.handle(handler, self._spec, self._around.namespace.address, self._execute_code):
            log.info("container %s: preStop failed", self.name)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def _launch(self, argv: list[str], join: int | None) -> Launch:
        around = self._around
        who = env.identity(around.pod, self._spec, self._image)
        mounts = [
            Mount(
                source=str(around.volume_path(entry["name"])),
                target=str(entry["mountPath"]),
                read_only=bool(entry.get("readOnly")),
            )
            for entry in sorted(self._spec.get("volumeMounts") or (), key=lambda m: str(m["mountPath"]))
        ]
        mounts += [
            Mount(source=str(source), target=target, read_only=True)
            for target, source in around.files.items()
        ]
        scratch = around.folder / "scratch" / self.name
        scratch.mkdir(parents=True, exist_ok=True)
        security = self._spec.get("securityContext") or {}
        return Launch(
            netns=str(around.namespace.path),
            join=join,
            scratch=str(scratch),
            code=list(code_paths()),
            mounts=mounts,
            read_only_root=bool(security.get("readOnlyRootFilesystem")),
            hostname=str(around.pod["spec"].get("hostname") or around.pod["metadata"]["name"]),
            workdir=str(self._spec.get("workingDir") or "/"),
            argv=argv,
            env=self._environment,
            uid=who.uid,
            gid=who.gid,
            groups=list(who.groups),
            capabilities=list(who.capabilities),
            no_new_privileges=security.get("allowPrivilegeEscalation") is False,
        )


async def spawn(launch: Launch, output: int) -> asyncio.subprocess.Process:
    """Start a process and wait until the container's program has taken over from the launcher.

    The launch travels in an anonymous file: it holds secrets, and argv is public.
    """
    reading, writing = os.pipe()
    try:
        with os.fdopen(os.memfd_create("launch"), "w") as stream:
            json.dump(launch, stream)
            stream.flush()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(LAUNCHER),
                str(stream.fileno()),
                str(writing),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT if output != asyncio.subprocess.PIPE else output,
                pass_fds=(stream.fileno(), writing),
                start_new_session=True,
            )
    finally:
        os.close(writing)
    try:
        await _closed(reading)
    except asyncio.CancelledError:
        kill_group(process)
        await process.wait()
        raise
    finally:
        os.close(reading)
    return process


async def _closed(descriptor: int) -> None:
    """Wait until the other end of a pipe is closed."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_reader(descriptor, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(descriptor)


def kill_group(process: asyncio.subprocess.Process) -> None:
    """End what is left of a process and its children."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
