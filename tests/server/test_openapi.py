"""The published description: valid, complete, and true of what its examples do."""

import json
import re

import jsonschema_rs
import pytest

from flowkit.protocol.envelope import Request
from flowkit.protocol.resources import RESOURCES
from flowkit.server.openapi import SESSIONS, UNVERSIONED, document
from flowkit.server.routes import ROUTES
from flowkit.server.shapes import PARAMETERS
from tests.server.visitor import visiting

VERBS = ("get", "post", "put", "delete")


def operations(described):
    """(method, path, operation) of everything described."""
    for path, item in described["paths"].items():
        for method in VERBS:
            if method in item:
                yield method.upper(), path, item[method]


def refs(value):
    """Every reference in a part of the description."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from refs(part)
    elif isinstance(value, list):
        for part in value:
            yield from refs(part)


def with_components(described, schema):
    """*schema* as one that stands alone."""
    return {**schema, "components": described["components"]}


def test_the_description_is_openapi_3_1():
    """It satisfies the schema that OpenAPI 3.1 itself publishes."""
    definitions = pytest.importorskip(
        "schemathesis.specs.openapi.definitions", reason="needs schemathesis"
    )
    described = json.loads(json.dumps(document("nora")))

    jsonschema_rs.validator_for(definitions.OPENAPI_31).validate(described)
    assert described["openapi"] == "3.1.0"


def test_every_reference_leads_somewhere():
    """No name of a schema is wrong."""
    described = document()
    named = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}

    assert set(refs(described)) - named == set()


def test_every_schema_is_a_schema():
    """Each named schema can be compiled."""
    described = document()

    for schema in described["components"]["schemas"].values():
        jsonschema_rs.validator_for(with_components(described, schema))


def test_every_route_is_described():
    """Each row of the table is an operation, or a method that a POST may stand for."""
    described = {
        (method, path.lstrip("/")): operation for method, path, operation in operations(document())
    }
    missing = []
    for route in ROUTES:
        if route.method in ("MGET", "MPUT"):
            operation = described.get(("POST", route.pattern), {})
            named = [
                parameter["schema"]["enum"]
                for parameter in operation.get("parameters", ())
                if parameter["name"] == "X-HTTP-Method-Override"
            ]
            if not any(route.method in methods for methods in named):
                missing.append(route)
        elif (route.method, route.pattern) not in described:
            missing.append(route)

    assert missing == []


def test_every_parameter_is_described():
    """Each query parameter of each route is in its operation, and in no other."""
    known = {name for route in ROUTES for name in route.known}
    assert known - set(PARAMETERS) == set()
    for method, path, operation in operations(document()):
        if path in SESSIONS:
            continue
        rows = [route for route in ROUTES if f"/{route.pattern}" == path]
        overridable = ("POST", "MGET", "MPUT")
        of_post = [route for route in rows if route.method in overridable]
        of_verb = [route for route in rows if route.method == method]
        mine = of_post if method == "POST" else of_verb
        told = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"}

        assert told == {name for route in mine for name in route.known}


def test_every_operation_has_its_own_name_and_sentence():
    """Operation ids are unique; each summary is one line that says something."""
    found = list(operations(document()))
    names = [operation["operationId"] for _, _, operation in found]

    assert len(set(names)) == len(names)
    for _, _, operation in found:
        assert re.fullmatch(r"[A-Z][^\n]{4,}[^.\n]", operation["summary"])


def test_places_in_addresses_are_described():
    """Each name in braces is a parameter of its path."""
    for path, item in document()["paths"].items():
        told = [each["name"] for each in item.get("parameters", ())]

        assert told == re.findall(r"{(\w+)}", path)


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=RESOURCES)
def test_every_member_is_described(resource):
    """What is shown has every member; what is sent has those that a caller may choose."""
    schemas = document()["components"]["schemas"]
    title = resource.name.title().replace("_", "")
    asked = {name for name, member in resource.members.items() if not member.read_only}

    assert set(schemas[title]["properties"]) == set(resource.members)
    assert set(schemas[f"{title}Create"]["properties"]) == asked
    assert (f"{title}Change" in schemas) is resource.updatable
    for name in resource.server_set:
        assert schemas[title]["properties"][name]["readOnly"] is True


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=RESOURCES)
def test_the_example_of_a_body_satisfies_its_schema(resource):
    """Each resource has an example, and it may be sent."""
    described = document()
    schema = described["components"]["schemas"][resource.name.title().replace("_", "") + "Create"]
    validator = jsonschema_rs.validator_for(with_components(described, schema))

    assert schema["examples"]
    for example in schema["examples"]:
        assert validator.is_valid(example)


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=RESOURCES)
def test_the_example_of_an_answer_satisfies_its_schema(resource):
    """Each resource has an example as it is answered, with an id of its own kind."""
    described = document()
    schema = described["components"]["schemas"][resource.name.title().replace("_", "")]
    validator = jsonschema_rs.validator_for(with_components(described, schema))

    for example in schema["examples"]:
        assert validator.is_valid(example)
        assert resource.is_id(example["id"])


def test_writes_may_carry_a_request_id():
    """The header is described where it is followed, and nowhere else."""
    for method, path, operation in operations(document()):
        told = [each["name"] for each in operation.get("parameters", ())]
        writes = [each for each in ROUTES if f"/{each.pattern}" == path and each.writes]
        verbs = {"POST" if each.method == "MPUT" else each.method for each in writes} - {"GET"}

        assert ("X-Request-Id" in told) is (method in verbs)


def test_what_the_server_answers_satisfies_the_description(nora):
    """Real answers, good and bad, against the schemas of their operations."""
    described = document()

    def check(answered, path, method):
        responses = described["paths"][path][method]["responses"]
        content = responses[str(answered.status)]["content"]["application/json"]
        schema = with_components(described, content["schema"])
        envelope = json.loads(answered.response.body)
        jsonschema_rs.validator_for(schema).validate(envelope)

    flow = nora.flow("/nora/a", filter="", capacity=5)
    drop = nora.drop(flow, temp=1)
    address = f"/drop/{flow['id']}"
    many = [{"elems": {}}, {"elems": 5}]
    check(nora.ask("GET", "/flow"), "/flow", "get")
    check(nora.ask("POST", "/flow", {"path": "x"}), "/flow", "post")
    check(nora.ask("GET", f"/flow/{flow['id']}"), "/flow/{id}", "get")
    check(nora.ask("POST", address, many), "/drop/{flow}", "post")
    check(nora.ask("GET", f"{address}/{drop['id']}"), "/drop/{flow}/{id}", "get")
    check(nora.ask("GET", "/drop?path=/nora/none"), "/drop", "get")
    check(nora.ask("DELETE", address), "/drop/{flow}", "delete")
    check(nora.ask("GET", "/identity"), "/identity", "get")


def test_a_wrong_answer_would_not_satisfy_the_description():
    """The schemas refuse: an id of another kind, a refusal without a sentence."""
    described = document()
    schemas = described["components"]["schemas"]
    flow = jsonschema_rs.validator_for(with_components(described, schemas["Flow"]))
    refusal = jsonschema_rs.validator_for(with_components(described, schemas["Refusal"]))
    head = {"status": 400, "ok": False, "messages": [], "errors": [], "references": {}}

    assert flow.is_valid({"id": "f" + "0" * 24})
    assert not flow.is_valid({"id": "d" + "0" * 24})
    assert refusal.is_valid({"head": {**head, "errors": ["x: y"]}, "body": {}})
    assert not refusal.is_valid({"head": head, "body": {}})


def test_the_description_is_published(nora):
    """``GET /openapi.json`` answers it to anybody, as plain JSON without an envelope."""
    published = nora.app.handle(Request.from_target("GET", "/openapi.json"))
    refused = nora.app.handle(Request.from_target("POST", "/openapi.json"))

    assert published.status == 200
    assert published.headers["content-type"].startswith("application/json")
    assert json.loads(published.body) == json.loads(json.dumps(document()))
    assert refused.status == 405


@pytest.mark.parametrize("path", UNVERSIONED)
def test_addresses_of_the_server_itself(tmp_path, path):
    """GET needs no token; everything else is 405 and names GET."""
    with visiting(tmp_path / "data", metrics=True) as (nora, _):
        answered = nora.app.handle(Request.from_target("GET", path))
        refused = nora.app.handle(Request.from_target("DELETE", path))

    assert answered.status == 200
    assert answered.body
    assert refused.status == 405
    assert "GET" in refused.headers["allow"]


def test_the_account_stands_in_the_addresses():
    """The servers entry names the account that asked."""
    assert document("bob")["servers"][0]["variables"]["account"]["default"] == "bob"
    assert document("bob") is document("bob")
