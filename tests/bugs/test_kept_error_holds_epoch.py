"""An error of a change that could not be read was kept, and with it the epoch that it looked at.

Found by the model (`tests/property`): the frame in which the runtime reads the request of a change
stayed in the error's traceback, with the current epoch among its variables. A host that kept the
error of a mistyped name, in a log of the last errors for example, held up every plugin's next
drain.
"""

import pytest
from tests.conftest import tool

from epochal.errors import ArtifactError, UnknownPluginError


@pytest.mark.parametrize(
    ("plugin", "expected"), [("mistyped", UnknownPluginError), ("geo", ArtifactError)]
)
def test_a_kept_error_holds_no_epoch(rt, plugins, plugin, expected):
    path = plugins.write("geo", "@tool\ndef version(): return 1\n")
    rt.load(path)
    with pytest.raises(expected) as caught:
        rt.reload(plugin, path.with_name("nowhere.py"))
    cut = rt.reload("geo", path, drain_timeout=1.0)
    assert cut.drained, cut.holders
    assert caught.value is not None
    assert rt.epoch[tool]["geo.version"]() == 1
