"""A raising `wrap` of a kind delayed its change for the whole drain limit.

The error's traceback had a frame of ours with the lease, and the rollback waited for that.
"""

import pytest
from tests.notes import notes_of

from epochal import Kind
from epochal.errors import ExportError


class Broken(Kind):
    def open(self, export):
        return export.target()

    def wrap(self, instance, lease):
        raise ValueError("not today")


broken = Broken("broken")


def test_a_raising_wrap_is_refused_at_once_and_holds_nothing(rt, plugins):
    code = "from tests.bugs.test_raising_wrap import broken\n@broken\nclass c: pass\n"
    with pytest.raises(ExportError, match="cannot be offered: ValueError: not today") as caught:
        rt.load(plugins.write("geo", code))
    assert not notes_of(caught.value)
