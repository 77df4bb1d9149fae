"""Libraries that plugins use, as each one's own documentation shows.

Unlike the distributions of `catalogue`, the library is the host's: it is imported once and stays,
while the plugin that uses it comes and goes. It may keep what the plugin registered with it.

`python -m tests.realcode.reload_use` reloads each plugin under calls, every one in a process of its
own, and writes the second table of docs/real-code.md. The dependency group `libraries` pins the
versions.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["USES", "Use"]


@dataclass(frozen=True, slots=True)
class Use:
    """A library used inside a plugin.

    Attributes:
        library: its distribution, and what of it is used, if there are several.
        code: the plugin's code; exports `use()`.
        returns: the result of `use()`, in every generation.
        host: the code of the module `host`, which the plugin may import.
        counts: an expression over `host`: what the plugin registered; the same after each reload.
        kept_by: part of the path of the leak, if the library keeps the plugin: of each generation,
            or of the last one when it is removed.
        remedy: part of what the report advises then.
    """

    library: str
    code: str
    returns: object
    host: str = ""
    counts: str = "0"
    kept_by: str = ""
    remedy: str = ""

    @property
    def distribution(self) -> str:
        """The distribution that must be installed."""
        return self.library.partition(" ")[0]


USES = (
    Use(
        "fastapi",
        """
        from fastapi import Depends, FastAPI
        from fastapi.testclient import TestClient
        from pydantic import BaseModel

        class Item(BaseModel):
            name: str
            price: float

        app = FastAPI()

        async def page(skip: int = 0):
            yield skip

        @app.post("/items")
        async def create(item: Item, skip: int = Depends(page)) -> Item:
            return item.model_copy(update={"price": item.price + skip})

        @app.get("/sync/{number}")
        def look(number: int):
            return {"number": number}

        @tool
        def use():
            client = TestClient(app)
            made = client.post("/items?skip=2", json={"name": "a", "price": 1}).json()
            return made, client.get("/sync/7").json(), client.post("/items").status_code
        """,
        [{"name": "a", "price": 3.0}, {"number": 7}, 422],
    ),
    Use(
        "fastapi mounted in the host's app",
        """
        import asyncio
        import httpx
        from fastapi import FastAPI
        from host import app
        from starlette.routing import Mount

        geo = FastAPI()

        @geo.get("/number")
        async def number():
            return 7

        def init(ctx):
            ctx.register(app.router.routes, Mount("/geo", app=geo))

        @tool
        def use():
            async def ask():
                transport = httpx.ASGITransport(app=app)
                async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                    return (await client.get("/geo/number")).json()
            return asyncio.run(ask())
        """,
        7,
        host="from fastapi import FastAPI\napp = FastAPI()\n",
        counts="len(host.app.router.routes)",
    ),
    Use(
        "pydantic",
        """
        from typing import Annotated, Generic, Literal, TypeVar
        from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator

        T = TypeVar("T")

        class Cat(BaseModel):
            kind: Literal["cat"]
            lives: int = 9

        class Dog(BaseModel):
            kind: Literal["dog"]
            name: str

            @field_validator("name")
            @classmethod
            def capital(cls, name: str) -> str:
                return name.title()

        class Box(BaseModel, Generic[T]):
            content: list[T]

        Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
        pets = TypeAdapter(list[Pet])

        @tool
        def use():
            found = pets.validate_python([{"kind": "cat"}, {"kind": "dog", "name": "rex"}])
            try:
                Box[int](content=["x"])
            except ValidationError as error:
                count = error.error_count()
            return found[0].lives, found[1].name, Box[Dog](content=[found[1]]).model_dump(), count
        """,
        [9, "Rex", {"content": [{"kind": "dog", "name": "Rex"}]}, 1],
    ),
    Use(
        "sqlalchemy a base of its own",
        """
        from sqlalchemy import ForeignKey, create_engine, event, select
        from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
        from sqlalchemy.pool import StaticPool

        class Base(DeclarativeBase):
            pass

        class User(Base):
            __tablename__ = "user_account"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]
            addresses: Mapped[list["Address"]] = relationship(back_populates="user")

        class Address(Base):
            __tablename__ = "address"
            id: Mapped[int] = mapped_column(primary_key=True)
            email: Mapped[str]
            user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
            user: Mapped[User] = relationship(back_populates="addresses")

        def init(ctx):
            global engine
            options = {"check_same_thread": False}
            engine = create_engine("sqlite://", poolclass=StaticPool, connect_args=options)
            ctx.defer(engine.dispose)
            Base.metadata.create_all(engine)
            with Session(engine) as session:
                session.add(User(name="ann", addresses=[Address(email="a@b")]))
                session.commit()

        import threading
        ONE_CONNECTION = threading.Lock()

        @tool
        def use():
            with ONE_CONNECTION, Session(engine) as session:
                user = session.scalars(select(User).where(User.name == "ann")).one()
                return user.name, [address.email for address in user.addresses]
        """,
        ["ann", ["a@b"]],
    ),
    Use(
        "sqlalchemy the host's base",
        """
        from sqlalchemy import select
        from sqlalchemy.orm import Mapped, Session, mapped_column
        from host import Base, engine, lock

        class Place(Base):
            __tablename__ = "place"
            __table_args__ = {"extend_existing": True}
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]

        def init(ctx):
            Base.metadata.create_all(engine)
            with lock, Session(engine) as session:
                if session.get(Place, 1) is None:
                    session.add(Place(id=1, name="here"))
                session.commit()

        @tool
        def use():
            with lock, Session(engine) as session:
                return session.scalars(select(Place.name)).all()
        """,
        ["here"],
        host="""
import threading
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import StaticPool
class Base(DeclarativeBase): pass
options = {"check_same_thread": False}
engine = create_engine("sqlite://", poolclass=StaticPool, connect_args=options)
lock = threading.Lock()
""",
        counts="len(host.Base.metadata.tables)",
        kept_by="class_manager",
        remedy="DeclarativeBase of the plugin's own",
    ),
    Use(
        "sqlalchemy the host's engine",
        """
        from sqlalchemy import ForeignKey, select
        from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
        from host import Country, engine, lock

        class Base(DeclarativeBase):
            pass

        class Place(Base):
            __tablename__ = "place"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]
            country: Mapped[int] = mapped_column(ForeignKey(Country.__table__.c.id))

        def init(ctx):
            ctx.defer(engine.clear_compiled_cache)
            Base.metadata.create_all(engine)
            with lock, Session(engine) as session:
                if session.get(Place, 1) is None:
                    session.add(Place(id=1, name="here", country=1))
                session.commit()

        @tool
        def use():
            query = select(Place.name, Country.name).join(Country, Country.id == Place.country)
            with lock, Session(engine) as session:
                return [tuple(row) for row in session.execute(query)]
        """,
        [["here", "X"]],
        host="""
import threading
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool
class Base(DeclarativeBase): pass
class Country(Base):
    __tablename__ = "country"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
options = {"check_same_thread": False}
engine = create_engine("sqlite://", poolclass=StaticPool, connect_args=options)
lock = threading.Lock()
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add(Country(id=1, name="X"))
    session.commit()
""",
        counts="len(host.Base.metadata.tables)",
    ),
    Use(
        "pandas an accessor",
        """
        import pandas as pd

        @pd.api.extensions.register_dataframe_accessor("geo")
        class Geo:
            def __init__(self, frame):
                self._frame = frame

            @property
            def center(self):
                return float(self._frame["lat"].mean())

        @tool
        def use():
            return pd.DataFrame({"lat": [1.0, 3.0]}).geo.center
        """,
        2.0,
        host="import pandas, warnings\nwarnings.simplefilter('ignore', UserWarning)\n",
        counts="len(host.pandas.DataFrame._accessors)",
        kept_by="DataFrame.geo._accessor",
        remedy="in ctx.defer, delete the attribute",
    ),
    Use(
        "pandas an accessor that it takes back",
        """
        import pandas as pd

        @pd.api.extensions.register_dataframe_accessor("geo")
        class Geo:
            def __init__(self, frame):
                self._frame = frame

            def size(self):
                return len(self._frame)

        def leave():
            if vars(pd.DataFrame)["geo"]._accessor is Geo:
                del pd.DataFrame.geo
                pd.DataFrame._accessors.discard("geo")

        def init(ctx):
            ctx.defer(leave)

        @tool
        def use():
            return pd.DataFrame({"lat": [1.0, 3.0]}).geo.size()
        """,
        2,
        host="import pandas, warnings\nwarnings.simplefilter('ignore', UserWarning)\n",
        counts="len(host.pandas.DataFrame._accessors)",
    ),
    Use(
        "polars a namespace",
        """
        import polars as pl

        @pl.api.register_expr_namespace("greetings")
        class Greetings:
            def __init__(self, expr):
                self._expr = expr

            def hello(self):
                return (pl.lit("Hello ") + self._expr).alias("hello")

        @pl.api.register_dataframe_namespace("split")
        class Split:
            def __init__(self, frame):
                self._frame = frame

            def heads(self):
                return self._frame.head(1)

        @tool
        def use():
            frame = pl.DataFrame({"name": ["ann", "bob"]})
            return frame.select(pl.col("name").greetings.hello()).split.heads()["hello"].to_list()
        """,
        ["Hello ann"],
        host="import polars, warnings\nwarnings.simplefilter('ignore', UserWarning)\n",
        counts="len(host.polars.Expr._accessors)",
        kept_by="Expr.greetings._ns",
        remedy="in ctx.defer, delete the attribute",
    ),
    Use(
        "polars a namespace that it takes back",
        """
        import polars as pl

        @pl.api.register_expr_namespace("greetings")
        class Greetings:
            def __init__(self, expr):
                self._expr = expr

            def hello(self):
                return (pl.lit("Hello ") + self._expr).alias("hello")

        def leave():
            if vars(pl.Expr)["greetings"]._ns is Greetings:
                del pl.Expr.greetings
                pl.Expr._accessors.discard("greetings")

        def init(ctx):
            ctx.defer(leave)

        @tool
        def use():
            frame = pl.DataFrame({"name": ["ann"]})
            return frame.select(pl.col("name").greetings.hello())["hello"].to_list()
        """,
        ["Hello ann"],
        host="import polars, warnings\nwarnings.simplefilter('ignore', UserWarning)\n",
        counts="len(host.polars.Expr._accessors)",
    ),
    Use(
        "apscheduler",
        """
        import threading
        from apscheduler.schedulers.background import BackgroundScheduler

        ticked = threading.Event()

        def tick(word):
            ticked.set()

        def init(ctx):
            scheduler = BackgroundScheduler()
            scheduler.add_job(tick, "interval", seconds=0.02, args=["x"], id="tick")
            scheduler.start()
            ctx.defer(scheduler.shutdown)

        @tool
        def use():
            return ticked.wait(20)
        """,
        True,
    ),
    Use(
        "httpx",
        """
        import asyncio
        import httpx

        def answer(request):
            return httpx.Response(200, json={"path": request.url.path})

        async def log(response):
            await response.aread()

        def init(ctx):
            global client
            client = ctx.enter_context(httpx.Client(transport=httpx.MockTransport(answer)))

        @tool
        def use():
            async def ask():
                hooks = {"response": [log]}
                transport = httpx.MockTransport(answer)
                async with httpx.AsyncClient(transport=transport, event_hooks=hooks) as other:
                    return (await other.get("http://x/b")).json()["path"]
            return client.get("http://x/a").json()["path"], asyncio.run(ask())
        """,
        ["/a", "/b"],
    ),
    Use(
        "aiohttp",
        """
        import asyncio
        from aiohttp import ClientSession, web
        from aiohttp.test_utils import TestClient, TestServer

        routes = web.RouteTableDef()

        @routes.get("/{name}")
        async def hello(request):
            return web.json_response({"hello": request.match_info["name"]})

        @web.middleware
        async def stamp(request, handler):
            response = await handler(request)
            response.headers["X-Geo"] = "1"
            return response

        @tool
        def use():
            async def ask():
                app = web.Application(middlewares=[stamp])
                app.add_routes(routes)
                async with TestClient(TestServer(app)) as client:
                    async with client.get("/ann") as response:
                        return (await response.json())["hello"], response.headers["X-Geo"]
            return asyncio.run(ask())
        """,
        ["ann", "1"],
    ),
    Use(
        "click",
        """
        import click
        from click.testing import CliRunner

        class Pair(click.ParamType):
            name = "pair"
            def convert(self, value, param, ctx):
                return tuple(value.split(":"))

        @click.group()
        def cli():
            pass

        @cli.command()
        @click.option("--at", type=Pair())
        @click.pass_context
        def show(ctx, at):
            click.echo(f"at {at[0]} and {at[1]}")

        @tool
        def use():
            return show.make_context("show", ["--at", "1:2"]).params["at"]
        """,
        ["1", "2"],
    ),
    Use(
        "click a command in the host's group",
        """
        import click
        from host import cli

        @click.command()
        @click.argument("name")
        def greet(name):
            return f"hello {name}"

        def init(ctx):
            ctx.register(cli.commands, "greet", greet)

        @tool
        def use():
            return cli.main(["greet", "ann"], standalone_mode=False)
        """,
        "hello ann",
        host="import click\n@click.group()\ndef cli(): pass\n",
        counts="len(host.cli.commands)",
    ),
    Use(
        "typer",
        """
        from enum import Enum
        from typing import Annotated
        import typer

        class Color(str, Enum):
            red = "red"
            blue = "blue"

        app = typer.Typer()

        @app.command()
        def paint(color: Color, times: Annotated[int, typer.Option(min=1)] = 1):
            return f"{color.value} {times}"

        @app.command()
        def other():
            return "other"

        @tool
        def use():
            return typer.main.get_command(app).main(
                ["paint", "blue", "--times", "3"], standalone_mode=False
            )
        """,
        "blue 3",
    ),
    Use(
        "structlog",
        """
        import structlog

        def add_place(logger, method, event):
            event["place"] = "geo"
            return event

        log = structlog.wrap_logger(
            structlog.ReturnLogger(),
            processors=[add_place, structlog.processors.KeyValueRenderer()],
        )
        named = structlog.get_logger(__name__)

        @tool
        def use():
            return log.bind(user="ann").info("hello")
        """,
        "user='ann' event='hello' place='geo'",
    ),
    Use(
        "structlog configured by the plugin",
        """
        import structlog

        def add_place(logger, method, event):
            event["place"] = "geo"
            return event

        def init(ctx):
            before = structlog.get_config()
            structlog.configure(
                processors=[add_place, structlog.processors.KeyValueRenderer()],
                logger_factory=structlog.ReturnLoggerFactory(),
                cache_logger_on_first_use=False,
            )

        @tool
        def use():
            return structlog.get_logger().info("hello")
        """,
        "event='hello' place='geo'",
        kept_by="structlog._config",
        remedy="structlog.wrap_logger",
    ),
    Use(
        "opentelemetry-sdk",
        """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
        from opentelemetry.sdk.trace.export import SpanExportResult

        class Exporter(SpanExporter):
            def export(self, spans):
                return SpanExportResult.SUCCESS

        def init(ctx):
            global tracer
            provider = TracerProvider()
            provider.add_span_processor(BatchSpanProcessor(Exporter()))
            ctx.defer(provider.shutdown)
            tracer = provider.get_tracer(__name__)

        @tool
        def use():
            with tracer.start_as_current_span("work") as span:
                span.set_attribute("place", "geo")
                return trace.get_current_span() is span
        """,
        True,
    ),
    Use(
        "celery",
        """
        from celery import Celery

        app = Celery("geo", broker="memory://", set_as_current=False)
        app.conf.task_always_eager = True

        @app.task
        def add(x, y):
            return x + y

        @tool
        def use():
            return add.apply(args=[1, 2]).result, add.name
        """,
        [3, "plug.add"],
        kept_by="celery._state._on_app_finalizers",
        remedy="shared=False",
    ),
    Use(
        "celery on an app of its own",
        """
        from celery import Celery

        app = Celery("geo", broker="memory://", set_as_current=False)

        @app.task(shared=False)
        def add(x, y):
            return x + y

        def init(ctx):
            ctx.defer(app.close)

        @tool
        def use():
            return add.apply(args=[1, 2]).result, add.name
        """,
        [3, "plug.add"],
    ),
    Use(
        "celery a shared task",
        """
        from celery import shared_task

        @shared_task
        def double(x):
            return 2 * x

        @tool
        def use():
            return double.apply(args=[4]).result
        """,
        8,
        host="from celery import Celery\napp = Celery('host', broker='memory://')\n",
        counts="len(host.app.tasks)",
        kept_by="celery._state._on_app_finalizers",
        remedy="shared=False",
    ),
    Use(
        "marshmallow",
        """
        from marshmallow import Schema, ValidationError, fields, post_load, validate

        class Place:
            def __init__(self, name):
                self.name = name

        class PlaceSchema(Schema):
            name = fields.Str(required=True, validate=validate.Length(min=2))

            @post_load
            def make(self, data, **kwargs):
                return Place(**data)

        class TripSchema(Schema):
            stops = fields.List(fields.Nested("PlaceSchema"))

        @tool
        def use():
            try:
                PlaceSchema().load({"name": "x"})
            except ValidationError as error:
                messages = list(error.messages)
            trip = TripSchema().load({"stops": [{"name": "here"}]})
            return trip["stops"][0].name, messages
        """,
        ["here", ["name"]],
        kept_by="class_registry._registry['PlaceSchema']",
        remedy="register = False",
    ),
    Use(
        "marshmallow without its registry",
        """
        from marshmallow import Schema, fields

        class PlaceSchema(Schema):
            name = fields.Str(required=True)

            class Meta:
                register = False

        class TripSchema(Schema):
            stops = fields.List(fields.Nested(PlaceSchema))

            class Meta:
                register = False

        @tool
        def use():
            return TripSchema().load({"stops": [{"name": "here"}]})
        """,
        {"stops": [{"name": "here"}]},
        host="from marshmallow import class_registry\n",
        counts="len(host.class_registry._registry)",
    ),
    Use(
        "numba",
        """
        import numba

        @numba.njit
        def total(n):
            result = 0.0
            for i in range(n):
                result += i
            return result

        @numba.vectorize(["float64(float64)"])
        def twice(x):
            return 2 * x

        @tool
        def use():
            return total(10), float(twice(3.0))
        """,
        [45.0, 6.0],
        kept_by="numba",
        remedy="in a module of the host",
    ),
    Use(
        "matplotlib",
        """
        import io
        from matplotlib.axes import Axes
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter

        class Geo(Axes):
            name = "geo"

        def euros(value, position):
            return f"{value:.0f} EUR"

        @tool
        def use():
            figure = Figure(figsize=(2, 1))
            axes = figure.add_subplot(axes_class=Geo)
            axes.plot([1, 2, 3], [1, 4, 9])
            axes.yaxis.set_major_formatter(FuncFormatter(euros))
            out = io.BytesIO()
            figure.savefig(out, format="png")
            return out.getvalue()[1:4].decode()
        """,
        "PNG",
    ),
    Use(
        "matplotlib a projection and a color map",
        """
        import io
        import matplotlib
        from matplotlib.axes import Axes
        from matplotlib.colors import ListedColormap
        from matplotlib.figure import Figure
        from matplotlib.projections import projection_registry, register_projection

        class Geo(Axes):
            name = "geo"

        register_projection(Geo)

        def init(ctx):
            matplotlib.colormaps.register(ListedColormap(["red", "blue"], name="geo"), force=True)

        @tool
        def use():
            axes = Figure().add_subplot(projection="geo")
            return type(axes).__name__, matplotlib.colormaps["geo"].N
        """,
        ["Geo", 2],
        host="from matplotlib import colormaps\n"
        "from matplotlib.projections import projection_registry as projections\n",
        counts="(len(host.projections._all_projection_types), len(host.colormaps))",
        kept_by="_all_projection_types",
        remedy="axes_class",
    ),
    Use(
        "pyyaml",
        """
        import yaml

        class Place:
            def __init__(self, name):
                self.name = name

        def construct(loader, node):
            return Place(loader.construct_scalar(node))

        yaml.add_constructor("!place", construct, Loader=yaml.SafeLoader)

        @tool
        def use():
            return yaml.safe_load("at: !place here")["at"].name
        """,
        "here",
        host="import yaml\n",
        counts="len(host.yaml.SafeLoader.yaml_constructors)",
        kept_by="yaml_constructors",
        remedy="a loader or dumper of the plugin's own",
    ),
    Use(
        "pyyaml a loader of its own",
        """
        import yaml

        class Loader(yaml.SafeLoader):
            pass

        class Dumper(yaml.SafeDumper):
            pass

        class Place(yaml.YAMLObject):
            yaml_tag = "!place"
            yaml_loader = Loader
            yaml_dumper = Dumper

        @tool
        def use():
            return yaml.load("at: !place {name: here}", Loader)["at"].name
        """,
        "here",
        host="import yaml\n",
        counts="len(host.yaml.SafeLoader.yaml_constructors)",
    ),
)
