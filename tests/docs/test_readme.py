"""The README's examples run as they stand, and print what the README prints."""

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()
FIRST, PLUGIN, HOST = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def output_of(program, folder):
    ended = subprocess.run(
        [sys.executable, program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_first_example_reloads_under_an_operation(tmp_path):
    assert len([line for line in FIRST.splitlines() if line.strip()]) <= 15
    (tmp_path / "first.py").write_text(FIRST)
    printed = re.search(r"```\n(10 for.*?)```", README, re.DOTALL)[1]
    assert output_of("first.py", tmp_path) == printed


def test_the_example_of_queries_prints_what_the_readme_prints(tmp_path):
    cities = re.search(r"```\n(name,.*?)```", README, re.DOTALL)[1]
    printed = re.search(r"```\n(1\.0\.0 .*?)```", README, re.DOTALL)[1]
    (tmp_path / "geo.py").write_text(PLUGIN)
    (tmp_path / "host.py").write_text(HOST)
    (tmp_path / "cities.csv").write_text(cities)
    assert output_of("host.py", tmp_path) == printed


def test_the_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([\w./-]+)\)", README)
    assert len(targets) >= 5
    for target in targets:
        assert (Path(__file__).parents[2] / target).exists(), target
