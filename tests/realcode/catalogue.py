"""The distributions that are loaded as plugins, with each plugin's code and expected result.

Each plugin imports its distribution by its own name, as any program does, and gets the copy that it
carries. The dependency group `realcode` pins the versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent


@dataclass(frozen=True, slots=True)
class Case:
    """A distribution from PyPI as a plugin.

    Attributes:
        distribution: its name on PyPI.
        code: the plugin's code; defines the export `use`, without arguments.
        returns: the result of `use()`, in every generation.
        carries: the other distributions that it needs.
        kept_by: part of the leak that keeps its old generations; empty if all are reclaimed.
    """

    distribution: str
    code: str
    returns: object
    carries: tuple[str, ...] = ()
    kept_by: str = ""

    @property
    def plugin(self) -> str:
        """The plugin's id."""
        return f"real_{self.distribution.replace('-', '_')}"

    @property
    def source(self) -> str:
        """The plugin's `__init__.py`."""
        return f"from tests.conftest import tool\n{dedent(self.code)}"


CASES = (
    Case(
        "attrs",
        """
        import attr
        import attrs

        @attrs.define(frozen=True)
        class Point:
            x: int = attrs.field(validator=attrs.validators.instance_of(int))
            y: "Point | int" = 0

        @tool
        def use():
            point = attrs.evolve(Point(1), y=2)
            return attrs.asdict(point), repr(attr.asdict(point))
        """,
        ({"x": 1, "y": 2}, "{'x': 1, 'y': 2}"),
    ),
    Case(
        "babel",
        """
        import datetime
        from babel.dates import format_date
        from babel.numbers import format_currency

        @tool
        def use():
            day = datetime.date(2026, 3, 1)
            return format_date(day, locale="de"), format_currency(12.5, "EUR", locale="en_US")
        """,
        ("01.03.2026", "\N{EURO SIGN}12.50"),
    ),
    Case(
        "click",
        """
        import click

        @click.command()
        @click.option("--count", default=1, help="How many.")
        @click.argument("name", type=click.Choice(["ann", "bob"]))
        def greet(count, name):
            return click.style(f"{name} {count}", fg="red")

        @tool
        def use():
            try:
                greet.main(["--count", "x", "ann"], standalone_mode=False)
            except click.BadParameter as error:
                return greet.main(["--count", "3", "ann"], standalone_mode=False), error.message
        """,
        ("\x1b[31mann 3\x1b[0m", "'x' is not a valid integer."),
    ),
    Case(
        "docutils",
        """
        from docutils.frontend import get_default_settings
        from docutils.nodes import list_item
        from docutils.parsers.rst import Parser
        from docutils.utils import new_document

        # Once: it calls `warnings.catch_warnings`, which threads may not do at the same time.
        SETTINGS = get_default_settings(Parser)

        @tool
        def use():
            document = new_document("text", SETTINGS)
            Parser().parse("Title\\n=====\\n\\n* one\\n* two", document)
            return document[0][0].astext(), len(list(document.findall(list_item)))
        """,
        ("Title", 2),
    ),
    Case(
        "jinja2",
        """
        import jinja2

        ENVIRONMENT = jinja2.Environment(autoescape=True)

        @tool
        def use():
            template = ENVIRONMENT.from_string("{{ n|upper }}{% for i in x %} {{ i }}{% endfor %}")
            return template.render(n="<ann>", x=[1, 2])
        """,
        "&lt;ANN&gt; 1 2",
        ("markupsafe",),
    ),
    Case(
        "lark",
        """
        import lark

        SUM = lark.Lark(
            'start: NUMBER ("+" NUMBER)*\\n%import common.NUMBER\\n%ignore " "', parser="lalr"
        )

        class Total(lark.Transformer):
            def start(self, children):
                return sum(map(int, children))

        @tool
        def use():
            return Total().transform(SUM.parse("1 + 2 + 39"))
        """,
        42,
    ),
    Case(
        "mako",
        """
        from mako.template import Template

        # Once: compiling one replaces `warnings.showwarning` and puts it back, which threads may
        # not do at the same time.
        TEMPLATE = Template("${n | h}\\n% for i in x:\\n${i}\\n% endfor\\n")

        @tool
        def use():
            return TEMPLATE.render(n="<b>", x=[1, 2])
        """,
        "&lt;b&gt;\n1\n2\n",
        ("markupsafe",),
    ),
    Case(
        "markdown",
        """
        import markdown

        @tool
        def use():
            return markdown.markdown("# Hi\\n\\na | b\\n--|--\\n1 | 2", extensions=["tables"])[:20]
        """,
        "<h1>Hi</h1>\n<table>\n",
    ),
    Case(
        "networkx",
        """
        import networkx as nx

        @tool
        def use():
            graph = nx.cycle_graph(6)
            return nx.shortest_path(graph, 0, 2), nx.density(graph)
        """,
        ([0, 1, 2], 0.4),
    ),
    Case(
        "pygments",
        """
        import pygments
        from pygments.formatters import NullFormatter, get_formatter_by_name
        from pygments.lexers import get_lexer_by_name

        @tool
        def use():
            lexer = get_lexer_by_name("python")
            html = pygments.highlight("x = 1", lexer, get_formatter_by_name("html"))
            return html.count("<span"), pygments.highlight("x = 1", lexer, NullFormatter())
        """,
        (4, "x = 1\n"),
    ),
    Case(
        "pyparsing",
        """
        import pyparsing as pp

        SUM = pp.infix_notation(
            pp.pyparsing_common.integer, [("*", 2, pp.OpAssoc.LEFT), ("+", 2, pp.OpAssoc.LEFT)]
        )

        @tool
        def use():
            return SUM.parse_string("1 + 2 * 3").as_list()
        """,
        [[1, "+", [2, "*", 3]]],
    ),
    Case(
        "python-dateutil",
        """
        from datetime import datetime
        from dateutil import parser, rrule
        from dateutil.relativedelta import relativedelta

        @tool
        def use():
            end = parser.parse("31 January 2026 10:00 UTC") + relativedelta(months=1)
            days = rrule.rrule(rrule.DAILY, count=3, dtstart=datetime(2026, 1, 1))
            return end.isoformat(), [day.day for day in days]
        """,
        ("2026-02-28T10:00:00+00:00", [1, 2, 3]),
    ),
    Case(
        "rich",
        """
        import io
        from rich.console import Console
        from rich.markdown import Markdown
        from rich.table import Table

        @tool
        def use():
            console = Console(file=io.StringIO(), width=20)
            table = Table("a", "b", box=None)
            table.add_row("1", "2")
            console.print(table)
            console.print(Markdown("* one"))
            return [line.split() for line in console.file.getvalue().splitlines()]
        """,
        [["a", "b"], ["1", "2"], [], ["•", "one"]],
        ("markdown-it-py", "mdurl", "pygments"),
    ),
    Case(
        "sqlglot",
        """
        import sqlglot

        @tool
        def use():
            return sqlglot.transpile("SELECT a::INT FROM t LIMIT 3", read="duckdb", write="tsql")
        """,
        ["SELECT TOP 3 CAST(a AS INTEGER) FROM t"],
    ),
    Case(
        "sympy",
        """
        import sympy

        @tool
        def use():
            x = sympy.Symbol("x")
            return str(sympy.expand((x + 1) ** 2)), str(sympy.diff(x * sympy.sin(x), x))
        """,
        ("x**2 + 2*x + 1", "x*cos(x) + sin(x)"),
        ("mpmath",),
    ),
)
