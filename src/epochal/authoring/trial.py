"""A proposal's trial, in a process of its own: it is staged beside what serves, and its test run.

The process gets a folder, few variables of the environment (no tokens), and the configuration of
the plugins that the proposal requires. It is killed with its children when its time is over or its
output is too long. That keeps accidents away from the server: code that never ends, exits, floods
its output or changes global state. It is no sandbox.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from epochal.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from epochal import Epoch
    from epochal.artifact import Artifact, Manifest


class TriedVersion(Protocol):
    """One version of a plugin with its configuration and grants, as a generation has it."""

    @property
    def plugin(self) -> str:
        """Its id."""
        ...

    @property
    def artifact(self) -> Artifact:
        """Its bytes."""
        ...

    @property
    def manifest(self) -> Manifest:
        """Its manifest."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """The host's configuration for it."""
        ...

    @property
    def grants(self) -> frozenset[str]:
        """What it is granted."""
        ...


MAX_OUTPUT: Final = 1 << 20
_SHOWN: Final = 4_000
_LOOK_S: Final = 0.05
_KEPT: Final = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "SYSTEMROOT", "TZ")
_OWN: Final = {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
_VERDICT: Final = "verdict.json"


class Trial:
    """Tries proposals, one at a time.

    ``_process`` is written by the thread that tries; `close` reads it on any thread.

    Args:
        timeout: seconds for one trial.
    """

    def __init__(self, timeout: float) -> None:
        if not timeout > 0:
            raise ValueError(f"the timeout of a trial is a number of seconds, not {timeout!r}")
        self._timeout: Final = timeout
        self._turn: Final = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_open = True

    def close(self) -> None:
        """End the trial that runs, and begin no other. Idempotent."""
        self._is_open = False
        process = self._process
        if process is not None:
            _kill(process)

    def run(
        self,
        artifact: Artifact,
        plugin: str,
        test: str,
        serving: Sequence[TriedVersion],
        grants: Sequence[str],
    ) -> tuple[str, ...]:
        """Try a proposal.

        Args:
            artifact: the proposal.
            plugin: its id.
            test: the text of its test.
            serving: what serves of it and of what it requires.
            grants: the capabilities that it is to have.

        Returns:
            The names of its tools.

        Raises:
            RefusedError: it fails, takes too long, or another trial runs; the message has the end
                of its output.
        """
        if not self._turn.acquire(blocking=False):
            raise RefusedError("another proposal is being tried; propose this one again later")
        try:
            with tempfile.TemporaryDirectory(prefix="epochal-trial-") as name:
                folder = Path(name)
                _lay_out(folder, artifact, plugin, test, serving, grants)
                return self._verdict(folder, plugin)
        finally:
            self._turn.release()

    def _verdict(self, folder: Path, plugin: str) -> tuple[str, ...]:
        output = folder / "output.txt"
        with output.open("wb") as out:
            why = self._run(folder, output, out)
        text = output.read_bytes()[-_SHOWN:].decode(errors="replace")
        try:
            tools = json.loads((folder / _VERDICT).read_text())
        except (OSError, ValueError):
            why = why or "it did not pass"
        else:
            if why is None:
                return tuple(str(tool) for tool in tools)
        raise RefusedError(f"the trial of {plugin} failed: {why}\n{text}".rstrip())

    def _run(self, folder: Path, output: Path, out: Any) -> str | None:
        """Why it failed; None if it ended well."""
        environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "epochal.authoring.trial", str(folder)],
            cwd=folder,
            env={**environment, **_OWN, "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._process = process
        try:
            return self._watched(process, output)
        finally:
            self._process = None
            _kill(process)  # and what it has left running

    def _watched(self, process: subprocess.Popen[bytes], output: Path) -> str | None:
        ends_at = monotonic() + self._timeout
        while process.poll() is None:
            if not self._is_open:
                return "the server is stopping"
            if monotonic() > ends_at:
                return f"it did not end within {self._timeout:g} s"
            if output.stat().st_size > MAX_OUTPUT:
                return f"it printed more than {MAX_OUTPUT:,} bytes"
            try:
                process.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                continue
        return None if process.returncode == 0 else f"status {process.returncode}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except (ProcessLookupError, PermissionError):
        pass  # it has ended, and left nothing
    process.wait()


def _lay_out(
    folder: Path,
    artifact: Artifact,
    plugin: str,
    test: str,
    serving: Sequence[TriedVersion],
    grants: Sequence[str],
) -> None:
    """Write the files of a trial."""
    before: list[Mapping[str, Any]] = []
    for one in serving:
        path = _write(folder / "serving" / one.plugin, one.artifact)
        config, granted = dict(one.config), sorted(one.grants)
        before.append({"plugin": one.plugin, "path": path, "config": config, "grants": granted})
    _write(folder, artifact)
    (folder / f"test_{plugin}.py").write_text(test, encoding="utf-8")
    work = {"plugin": plugin, "source": artifact.root, "grants": sorted(grants), "serving": before}
    (folder / "trial.json").write_text(json.dumps(work))


def needed(manifest: Manifest, epoch: Epoch) -> list[TriedVersion]:
    """What a plugin replaces in an epoch, and what it requires, directly or not."""
    left = [manifest.id, *(one.plugin for one in manifest.requires)]
    found: dict[str, TriedVersion] = {}
    while left:
        plugin = left.pop()
        generation = epoch.generations.get(plugin)
        if generation is not None and plugin not in found:
            found[plugin] = candidate = generation.candidate
            left += [required.plugin for required in candidate.manifest.requires]
    return list(found.values())


def _write(folder: Path, artifact: Artifact) -> str:
    """Write an artifact's files; its path."""
    root = folder / artifact.name if artifact.is_package else folder
    for name, content in artifact.files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return str(root if artifact.is_package else root / artifact.root)


def main(folder: Path) -> int:
    """Run a trial, in the process of its own; its status."""
    work = json.loads((folder / "trial.json").read_text())
    tools = _stage(folder, work)
    try:
        import pytest  # the host's: nothing else here needs it
    except ImportError:
        sys.exit("a proposal's test needs pytest where the server is installed: pip install pytest")
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "epochal.pytest_plugin"]
    options += ["--rootdir", str(folder), "--import-mode", "importlib", "-c", os.devnull]
    status = int(pytest.main([*options, f"test_{work['plugin']}.py"]))
    if status == 0:
        (folder / _VERDICT).write_text(json.dumps(tools))
    return status


def _stage(folder: Path, work: Mapping[str, Any]) -> list[str]:
    from epochal.artifact import read_artifact
    from epochal.kinds import tool
    from epochal.runtime import Runtime

    with Runtime(drain_timeout=1.0) as rt:
        with rt.change() as change:
            for one in work["serving"]:
                change.load(one["path"], config=one["config"], grants=one["grants"])
        source = read_artifact(folder / work["source"])
        there = {one["plugin"]: one for one in work["serving"]}
        replaced = there.get(work["plugin"])
        config = {} if replaced is None else replaced["config"]
        configs = {work["plugin"]: config} if config else None
        with rt.stage(source, configs=configs, grants=work["grants"], compare=True) as stage:
            return sorted(name for name in stage.epoch[tool] if name.startswith(work["plugin"]))


if __name__ == "__main__":
    from epochal.errors import EpochalError

    try:
        sys.exit(main(Path(sys.argv[1])))
    except EpochalError as error:
        sys.exit(f"[{error.code}] {error}")
