"""What the demonstration over workers counts as wrong."""

import pytest

from epochal.demo.scale import Checks, main

PARTS = [0, 10, 30]
RIGHT = [(7, 7, 0, 10, 10), (7, 7, 10, 20, 20)]


@pytest.mark.parametrize(
    ("answer", "mixed", "lost", "doubled"),
    [
        (RIGHT, 0, 0, 0),
        (RIGHT[:1], 0, 20, 0),
        (RIGHT[1:], 0, 10, 0),
        ([], 0, 30, 0),
        ([*RIGHT, RIGHT[1]], 0, 0, 20),
        # One part twice, another never: the counts agree, the rows do not.
        ([RIGHT[0]] * 3, 0, 20, 20),
        ([RIGHT[0], (7, 7, 10, 20, 19)], 0, 1, 1),
        ([(7, 8, 0, 10, 10), RIGHT[1]], 10, 0, 0),
        ([(8, 8, 0, 10, 10), RIGHT[1]], 10, 0, 0),
        ([RIGHT[0], (7, 7, 10, 15, 15), (6, 7, 11, 5, 5)], 5, 0, 0),
    ],
)
def test_rows_of_a_mix_lost_and_doubled_are_counted(answer, mixed, lost, doubled):
    checks = Checks(PARTS)
    checks.add(answer, ["7.0", "7.0"])
    assert (checks.mixed, checks.lost, checks.doubled) == (mixed, lost, doubled)
    assert f"\n{mixed + lost + doubled} rows of a mix, lost or doubled" in checks.report()


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--rows", "0"], "--rows is at least 1, not 0"),
        (["--parts", "4", "--rows", "3"], "--parts is at most --rows, 3, not 4"),
    ],
)
def test_wrong_options_are_named(arguments, fault, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert fault in capsys.readouterr().err
