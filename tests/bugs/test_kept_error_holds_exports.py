"""The error of a kind that refused a version was kept, and with it the old version's function.

Found by the model (`tests/property`): the kind's own frame stayed in the error's cause, with the
exports that it had compared among its variables. The old generation was shut down, but its memory
did not come back before the error was dropped.
"""

import pytest
from tests.integration.strict_kind import strict

from epochal.errors import IncompatibleError
from epochal.kinds.hook import Hook

CODE = "from tests.integration.strict_kind import strict\n@strict\ndef f({}): pass\n"
in_order = Hook("test.in_order")
ORDERED = """
from tests.bugs.test_kept_error_holds_exports import in_order
@in_order(after=[{after!r}])
def f(): pass
"""


def test_a_kept_error_of_compare_keeps_no_code(rt, plugins):
    rt.load(plugins.write("geo", CODE.format("x")))
    with pytest.raises(IncompatibleError) as caught:
        rt.reload("geo", plugins.write("geo", CODE.format("x, y")))
    cut = rt.reload("geo", plugins.write("geo", CODE.format("z")))
    assert cut.reclaimed, cut.leaks
    assert "1 parameters became 2" in str(caught.value)
    assert rt.epoch[strict]["geo.f"](1) is None


def test_a_kept_error_over_all_exports_keeps_no_code(rt, plugins):
    rt.load(plugins.write("a", ORDERED.format(after="b")))
    with pytest.raises(IncompatibleError, match="circle") as caught:
        rt.load(plugins.write("b", ORDERED.format(after="a")))
    cut = rt.remove("a")
    assert cut.reclaimed, cut.leaks
    assert caught.value is not None
