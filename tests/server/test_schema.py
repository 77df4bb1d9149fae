"""The OpenAPI document is true: requests made from it get the answers that it declares, no 500."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks
from tests.server.conftest import ADMIN

from epochal.server.api import document

# A schema cannot require that a text is SQL, that bytes are a plugin, or that an epoch's id is the
# current one's (412). So a request that fits the schema may be refused, and one that does not fit
# may be refused in a way that the check does not know.
EXCLUDED = [checks.positive_data_acceptance, checks.negative_data_rejection]

# The stream of events has no end, and the session is a browser's.
OPERATIONS = [
    pytest.param(method.upper(), path, mode, id=f"{method} {path} {mode}")
    for path, item in document()["paths"].items()
    for method, operation in item.items()
    if method != "parameters" and path not in ("/v1/events", "/v1/session")
    for mode in GenerationMode
    # A route without parameters has no wrong ones.
    if mode is GenerationMode.POSITIVE or "parameters" in operation or "requestBody" in operation
]


@pytest.mark.parametrize(("method", "path", "mode"), OPERATIONS)
def test_answers_conform_to_the_document(served, method, path, mode):
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


def test_each_operation_has_an_id_of_its_own():
    operations = [each for item in document()["paths"].values() for each in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len({*ids}) == len(ids) > 20
    assert all(each.isidentifier() for each in ids)


def test_a_false_document_is_detected(served):
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    answer = schema.raw_schema["components"]["schemas"]["StatusAnswer"]
    answer["properties"]["state"] = {"type": "integer"}
    case = schema["/v1/status"]["GET"].Case()
    with pytest.raises(BaseExceptionGroup, match="violates schema"):
        case.call_and_validate()
