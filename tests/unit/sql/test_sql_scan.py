"""The calls and parameters in a SQL text are found without a parser."""

import pytest

from epochal.sql.sql_scan import scan


def names(sql):
    return [call.name for call in scan(sql).calls]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT geo.f(x)", ["geo.f"]),
        ("SELECT geo . f (x), a.b.c(1)", ["geo.f", "a.b.c"]),
        ("SELECT geo.f/* why */(x)", ["geo.f"]),
        ("SELECT geo.f -- why\n (x)", ["geo.f"]),
        ('SELECT geo/* a */. /* b /* c */ */"f" -- d\n/**/(x), 1. geo(x)', ["geo.f"]),
        ("SELECT geo./**/(x), geo, f(x), geo 1 .f(x), .f(x)", []),
        ('SELECT "geo"."f"(x), "geo.f"(x), `geo.f`(x)', ["geo.f", "geo.f", "geo.f"]),
        ("SELECT geo.f(units.g(x))", ["geo.f", "units.g"]),
        ("SELECT count(*), sum(x)", []),
        ("SELECT geo.f", []),
        ("SELECT 'geo.f(x)', 'it''s geo.f(x)'", []),
        (r"SELECT e'\' geo.f(x)'", []),
        ("SELECT $$geo.f(x)$$, $tag$ geo.f(x) $tag$", []),
        ("SELECT 1 -- geo.f(x)", []),
        ("SELECT 1 /* a /* b */ geo.f(x) */ , geo.g(x)", ["geo.g"]),
        ("SELECT 1 /* never closed geo.f(x)", []),
        ("SELECT 'never closed geo.f(x)", ["geo.f"]),
        ("SELECT 1.5e3, geo.f(1)", ["geo.f"]),
        ("SELECT größe.länge(x)", ["größe.länge"]),
    ],
)
def test_only_calls_are_found(sql, expected):
    assert names(sql) == expected


def test_a_call_has_the_offsets_of_its_name():
    sql = "SELECT 'x', Geo.F (1)"
    [call] = scan(sql).calls
    assert sql[call.start : call.end] == "Geo.F"
    assert (call.name, call.folded) == ("Geo.F", "geo.f")


def test_quoted_parts_keep_their_case():
    [call] = scan('SELECT Geo."F"(1)').calls
    assert call.folded == "geo.F"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT $1, $2, $1", {"1", "2"}),
        ("SELECT $day FROM t WHERE x = $km", {"day", "km"}),
        ("SELECT '$1', \"$2\" -- $3\n /* $4 */", set()),
        ("SELECT $$ $1 $$", set()),
    ],
)
def test_parameters_are_found_outside_strings_and_comments(sql, expected):
    assert scan(sql).parameters == expected
