"""The files of docs/guides/deploy.md: they parse, and what they start is a command that starts."""

import configparser
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from tests.docs.test_pages import DOCS, blocks
from tests.sizes import IS_LONG

from epochal import Runtime
from epochal.cli.root import app
from epochal.server.security import Access, Guard, Right

FILES = {title: text for _, title, text in blocks(DOCS / "guides/deploy.md") if title}


def options_of_serve():
    import typer

    command = typer.main.get_command(app).commands["serve"]
    return {name for parameter in command.params for name in parameter.opts}


def unit():
    parser = configparser.ConfigParser(strict=False)
    parser.optionxform = str
    parser.read_string(FILES["epochal.service"])
    return parser


def started():
    """The arguments of `epochal serve` in every file."""
    service = shlex.split(unit()["Service"]["ExecStart"])
    assert service[:2] == ["/opt/epochal/bin/epochal", "serve"]
    yield service[2:]
    lines = FILES["Dockerfile"].splitlines()
    entry, command = (
        eval(line.split(" ", 1)[1])
        for word in ("ENTRYPOINT", "CMD")
        for line in lines
        if line.startswith(word + " ")
    )
    assert entry[:2] == ["epochal", "serve"]
    yield [*entry[2:], *command]
    yield [*entry[2:], *yaml.safe_load(FILES["compose.yaml"])["services"]["epochal"]["command"]]


def test_every_option_in_the_files_is_one_of_the_command():
    known, seen = options_of_serve(), 0
    for arguments in started():
        for argument in arguments:
            if argument.startswith("--"):
                assert argument in known, argument
                seen += 1
    assert seen >= 10


def test_the_unit_is_one_that_systemd_takes(tmp_path):
    service = unit()["Service"]
    assert service["KillSignal"] == "SIGTERM"
    assert int(service["TimeoutStopSec"]) > 10
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("no systemd here")
    text = FILES["epochal.service"].replace("/opt/epochal/bin/epochal", sys.executable)
    (tmp_path / "epochal.service").write_text(text.replace("User=epochal\n", ""))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / "epochal.service")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "epochal.service" not in done.stderr, done.stderr


def test_the_compose_file_names_what_it_uses():
    compose = yaml.safe_load(FILES["compose.yaml"])
    service = compose["services"]["epochal"]
    assert set(service["secrets"]) == set(compose["secrets"])
    named = {volume.split(":")[0] for volume in service["volumes"] if volume[0] not in "./"}
    assert named == set(compose["volumes"])


def test_the_image_runs_the_service_itself_as_a_user_of_its_own():
    steps = [line.split(" ", 1) for line in FILES["Dockerfile"].splitlines() if line.strip()]
    words = [word for word, *_ in steps]
    assert words[0] == "FROM"
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert dict(steps)["STOPSIGNAL"] == "SIGTERM"


def test_the_health_check_is_answered_whatever_names_are_allowed():
    line = next(each for each in FILES["Dockerfile"].splitlines() if each.startswith("HEALTHCHECK"))
    url = urlsplit(re.search(r"http://[^']+", line)[0])
    names = frozenset({"sql.example.org"})
    guard = Guard(Access(authorities=names, admin_token="x" * 32, query_token="y" * 32))
    scope = {
        "type": "http",
        "method": "GET",
        "path": url.path,
        "headers": [(b"host", url.netloc.encode())],
    }
    assert guard.right_of(scope) is Right.NOTHING


@pytest.mark.skipif(not IS_LONG, reason="builds an image: in make test-long")
@pytest.mark.timeout(1800)
def test_the_image_is_built_serves_is_healthy_and_stops(tmp_path):
    """Where a daemon of Docker runs that has the base image; with the host's network."""
    base = FILES["Dockerfile"].splitlines()[0].split()[1]
    if docker("image", "inspect", base, check=False).returncode:
        pytest.skip(f"no daemon of Docker with the image {base} here")
    (tmp_path / "Dockerfile").write_text(
        FILES["Dockerfile"].replace("HEALTHCHECK CMD", "HEALTHCHECK --interval=1s CMD")
    )
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/geo.py").write_text('# /// plugin\n# id = "geo"\n# version = "1"\n# ///\n')
    for name in ("admin", "query"):
        (tmp_path / name).write_text(f"{name}-token-of-thirty-two-characters")
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*wheel, str(tmp_path), str(DOCS.parent)], check=True, timeout=300)
    docker("build", "--network", "host", "--tag", "epochal-test", str(tmp_path))
    mounts = [f"--volume={tmp_path / name}:/{name}:ro" for name in ("plugins", "admin", "query")]
    tokens = ["--token-file", "/admin", "--query-token-file", "/query"]
    command = ["epochal-test", "--allow-host", "sql.example.org", *tokens]
    name = docker("run", "--detach", "--network", "host", *mounts, *command).stdout.strip()
    try:
        for _ in range(120):
            health = docker("inspect", "--format", "{{.State.Health.Status}}", name).stdout.strip()
            if health == "healthy":
                break
            time.sleep(0.5)
        assert health == "healthy", docker("logs", name).stderr
        docker("stop", name)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip() == "0"
        assert "SIGTERM: stopping" in docker("logs", name).stderr
    finally:
        docker("rm", "--force", name, check=False)


def docker(*arguments, check=True):
    if (program := shutil.which("docker")) is None:
        pytest.skip("no docker here")
    environ = {**os.environ, "DOCKER_BUILDKIT": "0"}
    return subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        timeout=1200,
        check=check,
        env=environ,
    )


def test_a_backup_of_a_store_in_use_can_be_restored(tmp_path, monkeypatch):
    plugin = tmp_path / "geo.py"
    plugin.write_text('# /// plugin\n# id = "geo"\n# version = "1.0"\n# ///\n')
    (tmp_path / "backup.py").write_text(FILES["backup.py"])
    store, backup = tmp_path / "store", tmp_path / "backup"
    with Runtime(store=store) as rt:
        rt.load(plugin)
        monkeypatch.setattr(sys, "argv", ["backup.py", str(store), str(backup)])
        runpy.run_path(str(tmp_path / "backup.py"), run_name="__main__")
        number, identity = rt.epoch.number, rt.epoch.id
    Path(plugin).unlink()
    with Runtime(store=backup) as rt:
        assert (rt.epoch.number, rt.epoch.id) == (number, identity)
        assert rt.generation("geo").version == "1.0"
