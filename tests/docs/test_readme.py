"""The README's example runs as it stands, and prints what the README says."""

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_example_prints_what_the_readme_says(tmp_path):
    plugin, host = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    cities = re.search(r"```\n(name,.*?)```", README, re.DOTALL)[1]
    said = re.search(r"```\n(1\.0\.0 .*?)```", README, re.DOTALL)
    (tmp_path / "geo.py").write_text(plugin)
    (tmp_path / "host.py").write_text(host)
    (tmp_path / "cities.csv").write_text(cities)
    done = subprocess.run(
        [sys.executable, "host.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == said[1]


def test_the_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([\w./-]+)\)", README)
    assert len(targets) >= 5
    for target in targets:
        assert (Path(__file__).parents[2] / target).exists(), target
