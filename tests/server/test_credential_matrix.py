"""Every route for every kind of credential: the exact status, from a table written by hand.

Nora owns what is asked for; what it is stands behind ``@`` in a row. A cell is a status. Behind the
status of a list or map, ``+`` says that the answer holds the object and ``-`` that it does not.

Every row that is a command of a session, too, is asked once more over one and must be answered
alike; subscribing is what finding the drops of that flow is.
"""

import itertools
import json
import re
from types import SimpleNamespace
from urllib.parse import parse_qsl

import pytest

from flowkit.protocol.envelope import NOT_LOCATED, Request
from flowkit.server.auth import NO_CREDENTIAL, ensure_account, rotate
from flowkit.server.routes import ROUTES
from tests.server.visitor import Visitor, visiting

COLUMNS = {
    "own": "nora's master token",
    "tR": "a Token with dropRead above the flow",
    "tW": "a Token with dropWrite above the flow",
    "tRW": "a Token with both",
    "t0": "a Token with its path and no flag",
    "tS": "a Token with both on /nora/a/b, where the flow is below /nora/a/bc",
    "none": "bob's master token, without a Share",
    "sR": "with a Share: read",
    "sW": "with a Share: write",
    "sDR": "with a Share: dropRead",
    "sDW": "with a Share: dropWrite",
    "sG": "with a Share of everything to a group that bob is in",
    "pub": "bob's master token, the flow is public",
    "tP": "a Token of nora's without that path, the flow is public",
    "prov": "a provisioning token of nora's",
}

LIKE = {
    "a Token with administer": "tRW",
    "two Tokens' worth in nested paths": "tRW",
    "an expired Share of everything": "none",
    "a revoked Share of everything": "none",
    "a Share of everything on /nora/a/b": "none",
    "a Share to a group that was left": "none",
    "a Share of some rights and, further down, of the others": "sG",
}
"""Further credentials, and the column whose answers they get."""

REFUSED = ("no token", "an unknown token", "bob's token for nora", "an expired Token",
           "a revoked Token", "a master token that was rotated")  # fmt: skip
"""What is 403 on every route."""

TABLE = """
                             own  tR   tW   tRW  t0   tS   none sR   sW   sDR  sDW  sG   pub tP prov
GET flow                     200+ 200+ 200+ 200+ 200+ 200- 200- 200+ 200- 200- 200- 200+ 200- 200-
MGET flow                    200+ 200+ 200+ 200+ 200+ 200- 200- 200+ 200- 200- 200- 200+ 200+ 200-
POST flow                    201  403  403  403  403  403  403  403  201  403  403  201  403  403
GET flow/{id}                200  200  200  200  200  404  404  200  404  404  404  200  200  404
PUT flow/{id}                200  403  403  403  403  404  404  403  404  404  404  200  403  404
PUT flow/{id}/{member}       200  403  403  403  403  404  404  403  404  404  404  200  403  404
MPUT flow                    200  403  403  403  403  404  404  403  404  404  404  200  403  404
DELETE flow/{id}             200  403  403  403  403  404  404  403  404  404  404  200  403  404

GET drop                     200+ 200+ 403  200+ 403  404  404  403  404  200+ 404  200+ 200+ 404
MGET drop                    200+ 200+ 200- 200+ 200- 200- 200- 200- 200- 200+ 200- 200+ 200+ 200-
GET drop/{flow}              200+ 200+ 403  200+ 403  404  404  403  404  200+ 404  200+ 200+ 404
MGET drop/{flow}             200+ 200+ 403  200+ 403  404  404  403  404  200+ 404  200+ 200+ 404
GET drop/{flow}/{id}         200  200  403  200  403  404  404  403  404  200  404  200  200  404
POST drop                    201  403  201  201  403  403  403  403  403  403  201  201  403  403
POST drop/{flow}             201  403  201  201  403  404  404  403  404  403  201  201  403  404
PUT drop/{flow}/{id}         200  403  200  200  403  404  404  403  404  403  200  200  403  404
PUT drop/{flow}/{id}/{member} 200 403  200  200  403  404  404  403  404  403  200  200  403  404
MPUT drop/{flow}             200  403  200  200  403  404  404  403  404  403  200  200  403  404
DELETE drop/{flow}/{id}      200  403  200  200  403  404  404  403  404  403  200  200  403  404
POST drop/{flow}/aggregate   200  200  403  200  403  404  404  403  404  200  404  200  200  404
DELETE drop/{flow}           200  403  200  200  403  404  404  403  404  403  200  200  403  404

GET identity @own            200+ 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200+
GET identity @carl           200+ 200- 200- 200- 200- 200- 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200-
MGET identity @own           200+ 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200+
MGET identity @carl          200+ 403  403  403  403  403  200+ 200+ 200+ 200+ 200+ 200+ 200+ 403
GET identity/{id} @own       200  200  200  200  200  200  200  200  200  200  200  200  200  200
GET identity/{id} @carl      200  403  403  403  403  403  200  200  200  200  200  200  200  403
POST identity                403  403  403  403  403  403  403  403  403  403  403  403  403  403
PUT identity/{id} @own       200  403  403  403  403  403  200  200  200  200  200  200  200  403
PUT identity/{id} @carl      403  403  403  403  403  403  403  403  403  403  403  403  403  403
PUT identity/{id}/{member} @own 200 403 403 403  403  403  200  200  200  200  200  200  200  403
PUT identity/{id}/{member} @carl 403 403 403 403 403  403  403  403  403  403  403  403  403  403
MPUT identity @own           200  403  403  403  403  403  200  200  200  200  200  200  200  403
MPUT identity @carl          403  403  403  403  403  403  403  403  403  403  403  403  403  403
DELETE identity/{id} @own    403  403  403  403  403  403  403  403  403  403  403  403  403  403
DELETE identity/{id} @carl   403  403  403  403  403  403  403  403  403  403  403  403  403  403

GET group                    200+ 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200-
GET group @member            200+ 200- 200- 200- 200- 200- 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200-
MGET group                   200+ 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200-
MGET group @member           200+ 200- 200- 200- 200- 200- 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200-
GET group/{id}               200  404  404  404  404  404  404  404  404  404  404  404  404  404
GET group/{id} @member       200  404  404  404  404  404  200  200  200  200  200  200  200  404
POST group                   201  403  403  403  403  403  201  201  201  201  201  201  201  403
PUT group/{id}               200  404  404  404  404  404  404  404  404  404  404  404  404  404
PUT group/{id} @member       200  404  404  404  404  404  403  403  403  403  403  403  403  404
PUT group/{id}/{member}      200  404  404  404  404  404  404  404  404  404  404  404  404  404
PUT group/{id}/{member} @member 200 404 404 404  404  404  403  403  403  403  403  403  403  404
MPUT group                   200  404  404  404  404  404  404  404  404  404  404  404  404  404
MPUT group @member           200  404  404  404  404  404  403  403  403  403  403  403  403  404
DELETE group/{id}            200  404  404  404  404  404  404  404  404  404  404  404  404  404
DELETE group/{id} @member    200  404  404  404  404  404  403  403  403  403  403  403  403  404

GET token                    200+ 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200-
GET token @itself            200+ 200+ 200+ 200+ 200+ 200+ 200- 200- 200- 200- 200- 200- 200- 200+
MGET token                   200+ 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200-
MGET token @itself           200+ 200+ 200+ 200+ 200+ 200+ 200- 200- 200- 200- 200- 200- 200- 200+
GET token/{id}               200  404  404  404  404  404  404  404  404  404  404  404  404  404
GET token/{id} @itself       200  200  200  200  200  200  404  404  404  404  404  404  404  200
POST token                   201  403  403  403  403  403  403  403  403  403  403  403  403  403
DELETE token/{id}            200  404  404  404  404  404  404  404  404  404  404  404  404  404
DELETE token/{id} @itself    200  403  403  403  403  403  404  404  404  404  404  404  404  403

GET share                    200+ 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200-
GET share @received          200+ 200- 200- 200- 200- 200- 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200-
MGET share                   200+ 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200-
MGET share @received         200+ 200- 200- 200- 200- 200- 200+ 200+ 200+ 200+ 200+ 200+ 200+ 200-
GET share/{id}               200  404  404  404  404  404  404  404  404  404  404  404  404  404
GET share/{id} @received     200  404  404  404  404  404  200  200  200  200  200  200  200  404
POST share                   201  403  403  403  403  403  403  403  403  403  403  403  403  403
DELETE share/{id}            200  404  404  404  404  404  404  404  404  404  404  404  404  404
DELETE share/{id} @received  200  404  404  404  404  404  403  403  403  403  403  403  403  404

GET origin/{box}             200  200  200  200  200  200  200  200  200  200  200  200  200  200
GET origin/{box} @device     200  200  200  200  200  404  404  200  404  404  404  200  404  404
GET upload/{box}/{message}   200  403  200  200  403  200  200  200  200  200  200  200  200  200
PUT upload/{box}/{message}/{n} 200 403 200  200  403  200  200  200  200  200  200  200  200  200
GET payload/{id}             200  200  403  200  403  404  404  403  404  200  404  200  200  404

GET stream                   200+ 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200-
MGET stream                  200+ 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200-
GET stream/{id}              200  404  404  404  404  404  404  404  404  404  404  404  404  404
GET stream/{id}/open         200  404  404  404  404  404  404  404  404  404  404  404  404  404
POST stream                  201  403  403  403  403  403  201  201  201  201  201  201  201  403
PUT stream/{id}              200  404  404  404  404  404  404  404  404  404  404  404  404  404
PUT stream/{id}/{member}     200  404  404  404  404  404  404  404  404  404  404  404  404  404
MPUT stream                  200  404  404  404  404  404  404  404  404  404  404  404  404  404
DELETE stream/{id}           200  404  404  404  404  404  404  404  404  404  404  404  404  404

GET provisioning-token       200+ 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200-
MGET provisioning-token      200+ 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200-
GET provisioning-token/{id}  200  404  404  404  404  404  404  404  404  404  404  404  404  404
POST provisioning-token      201  403  403  403  403  403  201  201  201  201  201  201  201  403
DELETE provisioning-token/{id} 200 404 404  404  404  404  404  404  404  404  404  404  404  404

GET provisioning             200+ 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200-
MGET provisioning            200+ 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200- 200-
GET provisioning/{id}        200  404  404  404  404  404  404  404  404  404  404  404  404  404
PUT provisioning/{id}        200  404  404  404  404  404  404  404  404  404  404  404  404  404
PUT provisioning/{id}/{member} 200 404 404  404  404  404  404  404  404  404  404  404  404  404
MPUT provisioning            200  404  404  404  404  404  404  404  404  404  404  404  404  404
DELETE provisioning/{id}     200  404  404  404  404  404  404  404  404  404  404  404  404  404
POST provisioning            403  403  403  403  403  403  403  403  403  403  403  403  403 403 201
POST provisioning/{id}/complete 403 403 403 403  403  403  403  403  403  403  403  403  403 403 200

GET device/{id}/properties   200  200  200  200  200  404  404  200  404  404  404  200  404  404
POST device/{id}/desired     200  403  403  403  403  404  404  403  404  404  404  200  404  404
POST device/{id}/reported    403  403  403  403  403  404  404  403  404  404  404  403  404  404
POST device/{id}/refresh     403  404  404  404  404  404  403  403  403  403  403  403  403 404 200

POST batch                   200+ 200+ 200+ 200+ 200+ 200- 200- 200+ 200- 200- 200- 200+ 200+ 200-
"""
"""Where a row says nothing of the last column, a provisioning token is refused: 403."""

PLACED = """
GET RESOURCE                 200+ 200+ 200+ 200+ 200+ 200- 200- 200+ 200- 200- 200- 200+ 200- 200-
MGET RESOURCE                200+ 200+ 200+ 200+ 200+ 200- 200- 200+ 200- 200- 200- 200+ 200- 200-
GET RESOURCE/{id}            200  200  200  200  200  404  404  200  404  404  404  200  404  404
PUT RESOURCE/{id}            200  403  403  403  403  404  404  403  404  404  404  200  404  404
PUT RESOURCE/{id}/{member}   200  403  403  403  403  404  404  403  404  404  404  200  404  404
MPUT RESOURCE                200  403  403  403  403  404  404  403  404  404  404  200  404  404
DELETE RESOURCE/{id}         200  403  403  403  403  404  404  403  404  404  404  200  404  404
"""
"""Objects with a place, which is the flow: rights there decide, whoever made them."""

COUNTED = """
GET statistics/{type}/{id}      200 200  200  200  200  404  404  200  404  404  404  200  200  404
GET statistics/{type}/{id} @own 200 403  403  403  403  403  200  200  200  200  200  200  200  403
GET statistics/{type}/{id} @carl 403 404 404  404  404  404  403  403  403  403  403  403  403  404
"""
"""Of a flow, of the caller's own identity, of another's; for every period alike."""

PERIODS = ("", "/{year}", "/{year}/{month}", "/{year}/{month}/{day}")

MADE = """
POST track                   201  403  403  403  403  403  403  403  403  403  403  201  403  403
POST track/simulate          200  403  403  403  403  403  200  200  200  200  200  200  200  403
POST track/backtest @stored  200  403  403  403  403  403  404  403  404  404  404  200  404  403
POST track/backtest @new     200  403  403  403  403  403  403  403  403  403  403  200  403  403
POST device                  201  403  403  403  403  403  403  403  403  403  403  403  403  403
POST api-task                201  403  403  403  403  403  403  403  403  403  201  201  403  403
POST rss                     201  403  403  403  403  403  403  403  403  403  201  201  403  403
POST mqtt                    201  403  403  403  403  403  403  403  403  403  201  201  403  403
"""

ROUTED = {(route.method, route.pattern) for route in ROUTES}


def rows():
    """Route, variant and cells by column of every line of the table."""
    header, *lines = [line for line in TABLE.splitlines() if line.strip()]
    assert header.split() == list(COLUMNS)
    made = {line.split()[1].split("/")[0] for line in MADE.splitlines() if line}
    placed = [PLACED.replace("RESOURCE", resource) for resource in sorted(made)]
    counted = [COUNTED.replace("/{id}", "/{id}" + period) for period in PERIODS]
    for line in (*lines, *"\n".join([MADE, *placed, *counted]).split("\n")):
        if not line or tuple(line.split()[:2]) not in ROUTED:
            continue  # a resource that this server does not have yet
        method, pattern, *cells = line.split()
        variant = cells.pop(0)[1:] if cells[0].startswith("@") else ""
        cells += ["403"] * (len(cells) == len(COLUMNS) - 1)
        yield pytest.param(
            (method, pattern),
            variant,
            dict(zip(COLUMNS, cells, strict=True)),
            id=f"{method} {pattern}{variant and ' @' + variant}",
        )


WHOSE = re.compile(
    "it takes the right|belongs to another account|own account|not in the namespace|administrator"
    "|its owner alone|no right"
)

ALL = {"read": True, "write": True, "dropRead": True, "dropWrite": True}
NESTED = {"/nora/a": {"dropRead": True}, "/nora/a/bc": {"dropWrite": True}}
HALVES = {
    "/nora/a": {"read": True, "dropRead": True, "write": False},
    "/nora/a/bc": {"write": True, "dropWrite": True, "read": False},
}


class World:
    """Nora, whose flows are asked for; bob, who asks; carl, whom nothing concerns."""

    def __init__(self, folder):
        self._visiting = visiting(folder)
        self.nora, self.bob = self._visiting.__enter__()
        app, clock = self.nora.app, self.nora.clock
        self.carl = Visitor(app, clock, "carl", ensure_account(app.store, "carl")[1])
        self.ids = {
            each.account: each.ask("GET", "/identity").body[0]["id"]
            for each in (self.nora, self.bob, self.carl)
        }
        self.made = 0
        self.token_ids = {}
        self.columns = self._columns()
        self.refused = self._refused()
        clock.now_ms += 10_000  # what has a duration here has run out

    def close(self):
        """Close the platform."""
        self._visiting.__exit__(None, None, None)

    def make(self, resource, **members):
        """An object of nora's."""
        made = self.nora.ask("POST", f"/{resource}", members)
        assert made.status == 201, made.errors
        return made.body

    def fresh(self):
        """A path below /nora/a/bc that was never used."""
        self.made += 1
        return f"/nora/a/bc/{self.made}"

    def token(self, paths, **members):
        """Somebody with a new Token of nora's."""
        made = self.make("token", paths=paths, **members)
        self.token_ids[made["tokenString"]] = made["id"]
        return self._as("nora", made["tokenString"])

    def maker(self):
        """Somebody with a new provisioning token of nora's."""
        return self._as("nora", self.make("provisioning-token")["provisioningToken"])

    def share(self, paths, *, group=None, **members):
        """A new account with a Share, or in a group with one; and the Share."""
        self.made += 1
        name = f"bob{self.made}"
        app = self.nora.app
        other = self._as(name, ensure_account(app.store, name)[1])
        self.ids[name] = other.ask("GET", "/identity").body[0]["id"]
        issued_to = self.ids[name]
        if group is not None:
            issued_to = self.make("group", memberIds=[issued_to])["id"]
            group.append(issued_to)
        return other, self.make("share", paths=paths, issuedTo=issued_to, **members)

    def _as(self, account, token):
        return Visitor(self.nora.app, self.nora.clock, account, token)

    def _columns(self):
        both = {"dropRead": True, "dropWrite": True}
        found = {
            "own": self.nora,
            "tR": self.token({"/nora/a": {"dropRead": True}}),
            "tW": self.token({"/nora/a/bc": {"dropWrite": True, "dropRead": False}}),
            "tRW": self.token({"/nora/a/bc": both}),
            "t0": self.token({"/nora/a": {}}),
            "tS": self.token({"/nora/a/b": both}),
            "none": self.bob,
            "sR": self.share({"/nora/a": {"read": True}})[0],
            "sW": self.share({"/nora/a": {"write": True}})[0],
            "sDR": self.share({"/nora/a": {"dropRead": True}})[0],
            "sDW": self.share({"/nora/a/bc": {"dropWrite": True}})[0],
            "sG": self.share({"/nora": ALL}, group=[])[0],
            "pub": self._as("bob", self.bob.token),
            "tP": self.token({"/nora/c": both}),
            "prov": self.maker(),
            "a Token with administer": self.token({"/nora/a": {"administer": True}}),
            "two Tokens' worth in nested paths": self.token(NESTED),
            "a Share of some rights and, further down, of the others": self.share(HALVES)[0],
            "an expired Share of everything": self.share({"/nora/a": ALL}, duration=5_000)[0],
            "a Share of everything on /nora/a/b": self.share({"/nora/a/b": ALL})[0],
        }
        revoked, share = self.share({"/nora/a": ALL})
        assert self.nora.ask("DELETE", f"/share/{share['id']}").status == 200
        found["a revoked Share of everything"] = revoked
        group = []
        left, _ = self.share({"/nora/a": ALL}, group=group)
        gone = self.nora.ask("PUT", f"/group/{group[0]}", {"memberIds": [self.ids["carl"]]})
        assert gone.status == 200
        found["a Share to a group that was left"] = left
        return found

    def _refused(self):
        revoked = self.token({"/nora": {"administer": True}})
        self.nora.ask("DELETE", f"/token/{self.token_ids[revoked.token]}")
        old = self.nora.token
        self.nora.token = rotate(self.nora.app.store, "nora")
        found = (
            self._as("nora", None),
            self._as("nora", "x" * 28),
            self._as("nora", self.bob.token),
            self.token({"/nora": {"administer": True}}, duration=5_000),
            revoked,
            self._as("nora", old),
        )
        return dict(zip(REFUSED, found, strict=True))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One platform for all rows; what a row changes it makes for itself."""
    made = World(tmp_path_factory.mktemp("matrix") / "data")
    yield made
    made.close()


def target(world, resource, variant, who, *, public):
    """What a request is about: made anew, so that no cell sees what another one did."""
    path = world.fresh()
    flow = world.make("flow", path=path, public=public)
    found = SimpleNamespace(path=path, flow=flow["id"], id=flow["id"])
    if resource in MOVING:
        found.other = world.make("flow", path=world.fresh())["path"]
        found.id = world.make(resource, **new_body(world, resource, found))["id"]
        found.variant = variant
    if resource == "device":
        token_id = world.nora.ask("GET", f"/device/{found.id}").body["tokenId"]
        found.secret = world.nora.ask("GET", f"/token/{token_id}").body["tokenString"]
    if resource in ("drop", "batch"):
        found.drop = found.id = world.nora.drop(flow, x=1)["id"]
    elif resource == "identity" or (resource == "statistics" and variant):
        found.id = world.ids["carl" if variant == "carl" else who.account]
    elif resource == "group":
        member = who.account if variant == "member" else "carl"
        found.id = world.make("group", memberIds=[world.ids[member]])["id"]
    elif resource == "token":
        own = world.token_ids.get(who.token) if variant == "itself" else None
        found.id = own or world.make("token", paths={path: {"dropRead": True}})["id"]
    elif resource == "stream":
        found.id = world.make("stream", group="house", name=flow["id"])["id"]
    elif resource == "payload":
        found.id = kept_payload(world, flow)
    elif resource == "origin" and variant == "device":
        found.id = world.make("device", path=path)["id"]
    elif resource == "provisioning-token":
        found.id = world.make("provisioning-token")["id"]
    elif resource == "provisioning":
        world.made += 1
        found.nonce = f"{world.made:032x}"
        asker = who if who is world.columns["prov"] else world.maker()
        begun = asker.ask("POST", "/provisioning", {"nonce": found.nonce})
        found.id = begun.body["id"]
    elif resource == "share":
        receiver = world.ids[who.account]
        if variant != "received" or who.account == "nora":
            receiver = world.make("group", memberIds=[world.ids["carl"]])["id"]
        members = {"paths": {"/nora/elsewhere": {"read": True}}}
        found.id = world.make("share", issuedTo=receiver, **members)["id"]
    return found


NUMBERS = itertools.count()


def kept_payload(world, flow):
    """A payload in a flow, as a message would leave it."""
    payload_id, drop = f"y{next(NUMBERS):024x}", world.nora.drop(flow, x=1)

    def job(writer):
        body = writer.pieces.begin()
        writer.pieces.append(body, b"bytes")
        writer.pieces.keep_payload(payload_id, flow["id"], drop["id"], body, None)

    world.nora.app.store.write(job)
    return payload_id


MOVING = frozenset({"track", "device", "api-task", "rss", "mqtt"})
"""Resources that are about a flow by its path."""

CHANGES = {
    "flow": ("description", "new"),
    "drop": ("fhash", "new"),
    "identity": ("icon", "new"),
    "group": ("description", "new"),
    "track": ("description", "new"),
    "device": ("displayName", "new"),
    "stream": ("description", "new"),
    "api-task": ("displayName", "new"),
    "rss": ("displayName", "new"),
    "mqtt": ("displayName", "new"),
    "provisioning": ("deviceId", "other-1"),
}
"""A member of each resource that can be changed, and what it is changed to."""


def request_of(world, method, pattern, found):
    """The address and body of one request of a row."""
    resource, *rest = pattern.split("/")
    member, value = CHANGES.get(resource, ("", ""))
    counted = "flowDropAdded" if found.id == found.flow else "apiCallByIdentity"
    names = {"{id}": found.id, "{flow}": found.flow, "{member}": member, "{type}": counted}
    names |= {"{year}": "2017", "{month}": "12", "{day}": "9", "{box}": "0f" * 16}
    names |= {"{message}": "ab" * 8, "{n}": "0"}
    address = "/".join(names.get(part, part) for part in pattern.split("/"))
    body = {
        "PUT": {member: value},
        "MPUT": {found.id: {member: value}},
        "MGET": [found.id],
    }.get(method, b"")
    if (method, pattern) == ("GET", "drop"):
        address += f"?path={found.path}"
    elif resource == "upload":
        body = b"a piece"
    elif resource == "origin":
        address += f"?device={found.id}" if found.id != found.flow else ""
    elif (method, pattern) == ("MGET", "drop"):
        body = [{"flowId": found.flow}]
    elif (method, pattern) == ("GET", "identity"):
        address += f"?filter=id%20==%20'{found.id}'"
    elif method == "GET" and not rest:
        address += "?limit=100000"
    elif method == "POST":
        body = new_body(world, pattern, found)
        body = body["requests"] if resource == "batch" else body
    return f"/{address}", body


def new_body(world, pattern, found):
    """The body of a POST: of a create, of a batch, of what only asks."""
    granted = {found.path: {"dropRead": True}}
    other = getattr(found, "other", None)
    track = {"source": found.path, "destination": other}
    task = {"destination": found.path, "disabled": True}
    if pattern == "track/backtest" and found.variant == "stored":
        track = {"track": found.id}
    return {
        "flow": {"path": f"{found.path}/new"},
        "drop": {"path": found.path, "elems": {"x": 2}},
        "drop/{flow}": {"elems": {"x": 2}},
        "drop/{flow}/aggregate": {"output": ["$count"]},
        "identity": {"name": "dora"},
        "group": {"memberIds": [world.ids["carl"]]},
        "token": {"paths": granted},
        "share": {"paths": granted, "issuedTo": world.ids["carl"]},
        "track": track,
        "track/simulate": {"filter": "EXISTS x", "drop": {"elems": {"x": 1}}},
        "track/backtest": track,
        "device": {"path": f"{found.path}/{found.flow}"},
        "stream": {"group": "house", "name": f"{found.flow}-{next(NUMBERS)}"},
        "api-task": {**task, "js": "function () {}"},
        "rss": {**task, "url": "http://example.org/x"},
        "mqtt": {**task, "uri": "tcp://example.org:1883", "topic": "x"},
        "batch": {"requests": [{"method": "GET", "path": f"/flow/{found.flow}"}]},
        "device/{id}/desired": {"values": {"n": 1}},
        "device/{id}/reported": {"values": {"n": 1}},
        "device/{id}/refresh": {"registrationToken": getattr(found, "secret", "")},
        "provisioning-token": {"description": "new"},
        "provisioning": {"nonce": f"{world.made:016x}" * 2},
        "provisioning/{id}/complete": {"nonce": getattr(found, "nonce", "")},
    }[pattern]


def cell_of(answer, method, pattern, found):
    """What the table says of an answer: its status, and whether the object is in it."""
    body = answer.body
    if (answer.status, method, pattern) == (200, "POST", "batch"):
        return f"{answer.status}{'+' if body[0]['head']['status'] == 200 else '-'}"
    is_list = method == "GET" and "{id}" not in pattern and "{box}" not in pattern
    if answer.status != 200 or not (is_list or method == "MGET"):
        return str(answer.status)
    if (method, pattern) == ("MGET", "drop"):
        return f"200{'+' if body.get(found.flow) else '-'}"
    ids = [one["id"] for one in (body.values() if method == "MGET" else body)]
    return f"200{'+' if found.id in ids else '-'}"


def ask(world, who, route, variant, *, public=False):
    """One cell: the answer and how the table would say it."""
    method, pattern = route
    resource = pattern.split("/")[0]
    found = target(world, resource, variant, who, public=public)
    address, body = request_of(world, method, pattern, found)
    answer = who.ask(method, address, body)
    return answer, cell_of(answer, method, pattern, found)


def test_the_table_has_every_route():
    """A new route needs a row here; a row without a route is a mistake."""
    written = {row.values[0] for row in rows()}

    assert written == {(route.method, route.pattern) for route in ROUTES}


@pytest.mark.parametrize(("route", "variant", "cells"), list(rows()))
def test_each_credential_gets_the_status_of_the_table(world, route, variant, cells):
    """For every column, and every further credential that is like one."""
    like = {**{name: name for name in COLUMNS}, **LIKE}
    wrong = []
    for name, who in world.columns.items():
        public = name in ("pub", "tP")
        answer, cell = ask(world, who, route, variant, public=public)
        if cell != cells[like[name]]:
            wrong.append(f"{name}: {cell}, the table says {cells[like[name]]}: {answer.errors}")
        if answer.status == 404 and answer.errors[0] != NOT_LOCATED:
            wrong.append(f"{name}: a 404 tells more than that: {answer.errors}")
        pattern = "" if name == "prov" else route[1]  # it has no right at any path
        if answer.status == 403 and not names_what_is_missing(pattern, answer.errors):
            wrong.append(f"{name}: a 403 does not name what is missing: {answer.errors}")

    assert not wrong, "\n".join(wrong)


def names_what_is_missing(pattern, errors):
    """Whether a refusal names the right and the path, or who may do it where there is no path."""
    if pattern.split("/")[0] in ("flow", "drop", "payload"):
        return all(re.search(r"no right (read|write|dropRead|dropWrite) at /nora/", each)
                   for each in errors)  # fmt: skip
    return bool(errors) and NO_CREDENTIAL not in errors and any(map(WHOSE.search, errors))


@pytest.mark.parametrize(("route", "variant", "cells"), list(rows()))
def test_what_is_no_credential_is_refused_everywhere(world, route, variant, cells):
    """403, whatever is asked for and whether or not it is there."""
    del cells
    wrong = {}
    for name, who in world.refused.items():
        answer, _ = ask(world, who, route, variant)
        if answer.status != 403 or len(answer.errors) != 1:
            wrong[name] = (answer.status, answer.errors)

    assert wrong == {}


# Sessions

COMMANDS = {
    ("POST", "R"): "create",
    ("POST", "R/{flow}"): "create",
    ("GET", "R"): "findmany",
    ("GET", "R/{flow}"): "findmany",
    ("GET", "R/{id}"): "find",
    ("GET", "R/{flow}/{id}"): "find",
    ("PUT", "R/{id}"): "update",
    ("PUT", "R/{flow}/{id}"): "update",
    ("DELETE", "R/{id}"): "delete",
    ("DELETE", "R/{flow}/{id}"): "delete",
}
"""The routes that are commands of a session (9.2), R being the resource."""


def command_rows():
    """The rows of the table that are commands, each with the name of its command."""
    for row in rows():
        (method, pattern), _, _ = row.values
        resource, *rest = pattern.split("/")
        kind = COMMANDS.get((method, "/".join(["R", *rest])))
        if kind is not None and resource not in ("batch", "payload", "statistics"):
            yield pytest.param(kind, *row.values, id=row.id)
        if (method, pattern) in (("GET", "drop"), ("GET", "drop/{flow}")):
            for said in ({}, {"sub": "r"}, {"sub": "v", "live": True, "since": None}):
                yield pytest.param(("subscribe", said), *row.values, id=f"subscribe {said}{row.id}")


def session_of(who):
    """The answer to a new session."""
    headers = {"x-auth-account": who.account, "x-auth-token": who.token or ""}
    return who.app.handle(Request("POST", ("session",), {}, headers))


def said_over(who, message):
    """The reply to a command over a session of its own, by polling."""
    session_id = json.loads(session_of(who).body)["body"]["id"]
    place = ("session", session_id, "polling")
    body = json.dumps({**message, "msgId": 1}).encode()
    assert who.app.handle(Request("POST", place, body=body)).status == 200
    replies = json.loads(who.app.handle(Request("GET", place)).body)
    who.app.live.loop.call(who.app.live.session(session_id).close)
    reply = next(one for one in replies if "head" in one)
    assert reply["head"]["msgId"] == 1
    return SimpleNamespace(
        status=reply["head"]["status"], body=reply["body"], errors=reply["head"]["errors"]
    )


def command_of(kind, pattern, found, address, body):
    """The message that is the twin of a request."""
    resource, *rest = pattern.split("/")
    query = dict(parse_qsl(address.partition("?")[2]))
    if not isinstance(kind, str):
        place = {"flowId": found.flow} if rest else {"path": found.path}
        return {"type": "subscribe", "object": "drop", **place, **kind[1]}
    message = {"type": kind, "object": resource}
    if "{flow}" in rest:
        message["flowId"] = found.flow
    if "{id}" in rest:
        message["id"] = found.id
    if kind in ("create", "update"):
        message["value"] = body
    if query:
        message["options"] = query
    return message


@pytest.mark.parametrize(("kind", "route", "variant", "cells"), list(command_rows()))
def test_a_command_of_a_session_has_the_rights_of_its_route(world, kind, route, variant, cells):
    """The same statuses for every credential, found and not found alike."""
    like = {**{name: name for name in COLUMNS}, **LIKE}
    method, pattern = route
    wrong = []
    for name, who in world.columns.items():
        if name == "prov":
            continue  # it gets no session
        resource = pattern.split("/")[0]
        found = target(world, resource, variant, who, public=name in ("pub", "tP"))
        address, body = request_of(world, method, pattern, found)
        answer = said_over(who, command_of(kind, pattern, found, address, body))
        if isinstance(kind, str):
            cell, wanted = cell_of(answer, method, pattern, found), cells[like[name]]
        else:
            cell, wanted = str(answer.status), cells[like[name]][:3]
        if cell != wanted:
            wrong.append(f"{name}: {cell}, the table says {wanted}: {answer.errors}")
        if answer.status == 404 and answer.errors[0] != NOT_LOCATED:
            wrong.append(f"{name}: a 404 tells more than that: {answer.errors}")

    assert not wrong, "\n".join(wrong)


def test_what_is_no_credential_gets_no_session(world):
    """403, and nothing is made."""
    for name, who in {**world.refused, "prov": world.columns["prov"]}.items():
        answer = session_of(who)
        assert (name, answer.status) == (name, 403)
