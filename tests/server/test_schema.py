"""The OpenAPI document is true: requests made from it are answered as it says, never by a 500."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks
from tests.server.conftest import ADMIN

from epochal.server.api import document

# That a text is SQL, that bytes are a plugin, that an epoch's id is the current one's (412): no
# schema says that, so a request that fits the schema may be refused, and one that does not may be
# refused in a way that the check does not know.
EXCLUDED = [checks.positive_data_acceptance, checks.negative_data_rejection]

# The stream of events has no end, and the session is a browser's.
OPERATIONS = [
    pytest.param(method.upper(), path, mode, id=f"{method} {path} {mode}")
    for path, item in document()["paths"].items()
    for method, operation in item.items()
    if method != "parameters" and path not in ("/v1/events", "/v1/session")
    for mode in GenerationMode
    # Where nothing is given, nothing can be given wrongly.
    if mode is GenerationMode.POSITIVE or "parameters" in operation or "requestBody" in operation
]


@pytest.mark.parametrize(("method", "path", "mode"), OPERATIONS)
def test_requests_are_answered_as_the_document_says(served, method, path, mode):
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    operation = schema[path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=10,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case):
        case.call_and_validate(
            headers={"Authorization": f"Bearer {ADMIN}"}, excluded_checks=EXCLUDED
        )

    ask()


def test_a_document_that_is_not_true_is_seen(served):
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    answer = schema.raw_schema["components"]["schemas"]["StatusAnswer"]
    answer["properties"]["state"] = {"type": "integer"}
    case = schema["/v1/status"]["GET"].Case()
    with pytest.raises(BaseExceptionGroup, match="violates schema"):
        case.call_and_validate()
