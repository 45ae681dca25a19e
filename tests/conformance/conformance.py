"""Checks the Azure emulator with Microsoft's own clients.

azure-identity exchanges real ServiceAccount tokens, azure-mgmt-msi manages
identities and federated credentials. What these clients do not understand,
Azure does not speak. Prints a line for each rule; exits with 1 if one fails.
"""

import argparse
import base64
import contextlib
import itertools
import json
import logging
import pathlib
import ssl
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
import uuid

from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceResponseError,
)
from azure.identity import WorkloadIdentityCredential
from azure.mgmt.authorization.v2022_04_01.models import PermissionGetResult
from azure.mgmt.msi import ManagedServiceIdentityClient

AUDIENCE = "api://AzureADTokenExchange"
CONCURRENT = "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity"
RULES = []


def rule(function):
    """Marks a check; its name is the rule."""
    RULES.append(function)
    return function


class Emulator:
    """The emulator under test, its clients, and what the command line names."""

    def __init__(self, args):
        self.url, self.ca, self.tenant = args.url, args.ca, args.tenant
        self.token_file, self.wrong_token_file = args.token_file, args.wrong_token_file
        self.token = pathlib.Path(args.token_file).read_text().strip()
        claims = claims_of(self.token)
        self.issuer, self.subject = claims["iss"], claims["sub"]
        _, _, self.subscription, _, self.group, *_, self.name = args.identity.split("/")
        self.operator = args.client
        self.arm = self.client(self.credential(args.client, args.token_file))
        self.identities = self.arm.user_assigned_identities
        self.credentials = self.arm.federated_identity_credentials
        self.client_id = None

    def credential(self, client_id, token_file):
        return WorkloadIdentityCredential(
            tenant_id=self.tenant,
            client_id=client_id,
            token_file_path=token_file,
            authority=self.url,
            connection_verify=self.ca,
            disable_instance_discovery=True,
            retry_total=0,
        )

    def client(self, credential, **options):
        return ManagedServiceIdentityClient(
            credential,
            self.subscription,
            base_url=self.url,
            connection_verify=self.ca,
            credential_scopes=[f"{self.url}/.default"],
            **options,
        )

    def put(self, name, subject=None, issuer=None, audiences=(AUDIENCE,), **options):
        properties = {
            "issuer": issuer or self.issuer,
            "subject": subject or self.subject,
            "audiences": list(audiences),
        }
        body = {"properties": properties}
        return self.credentials.create_or_update(self.group, self.name, name, body, **options)

    def get(self, name):
        return self.credentials.get(self.group, self.name, name)

    def delete(self, name, **options):
        return self.credentials.delete(self.group, self.name, name, **options)

    def list(self, **options):
        found = self.credentials.list(self.group, self.name, **options)
        # An identity has 20 at most; more means pages that never end.
        return list(itertools.islice(found, 50))

    def exchange(self, token_file=None, client_id=None):
        """Exchanges a token; a new credential each time, because they cache."""
        credential = self.credential(client_id or self.client_id, token_file or self.token_file)
        return credential.get_token("https://management.azure.com/.default")

    def raw(self, path, authorized):
        """A GET that no SDK would send."""
        request = urllib.request.Request(self.url + path)
        if authorized:
            token = self.exchange(client_id=self.operator).token
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with self.open(request) as response:
                return response.status, json.load(response), response.headers
        except urllib.error.HTTPError as error:
            return error.code, json.load(error), error.headers

    def admin(self, method, path, body=None):
        request = urllib.request.Request(f"{self.url}/admin/{path}", method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with self.open(request) as response:
            text = response.read()
        return json.loads(text) if text else None

    def open(self, request):
        context = ssl.create_default_context(cafile=self.ca)
        return urllib.request.urlopen(request, context=context, timeout=30)

    def statuses(self, operation):
        requests = self.admin("GET", "requests")["requests"]
        return [r["status"] for r in requests if r["operation"] == operation]

    @contextlib.contextmanager
    def config(self, **changes):
        before = self.admin("GET", "config")
        self.admin("PUT", "config", changes)
        try:
            yield
        finally:
            self.admin("PUT", "config", before)

    @contextlib.contextmanager
    def fault(self, **fault):
        self.admin("POST", "faults", fault)
        try:
            yield
        finally:
            self.admin("DELETE", "faults")

    def fresh_identity(self):
        """The identity without credentials, whatever a check before left behind."""
        self.identities.delete(self.group, self.name)
        created = self.identities.create_or_update(self.group, self.name, {"location": "westeurope"})
        self.client_id = created.client_id
        self.admin("DELETE", "requests")


def decoded(part):
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def encoded(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def claims_of(token):
    return decoded(token.split(".")[1])


@contextlib.contextmanager
def forged(token, header=None, claims=None):
    """A file with the token, changed but not signed again."""
    old_header, old_claims, signature = token.split(".")
    parts = [
        encoded(decoded(old_header) | (header or {})),
        encoded(decoded(old_claims) | (claims or {})),
        signature,
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".jwt") as file:
        file.write(".".join(parts))
        file.flush()
        yield file.name


def refused(kind, status, code, action):
    """Runs an action that must fail, and returns its error."""
    try:
        action()
    except kind as error:
        assert (error.status_code, error.error.code) == (status, code), error
        return error
    raise AssertionError(f"not refused: expected {status} {code}")


def refused_token(number, action):
    try:
        action()
    except ClientAuthenticationError as error:
        assert f"AADSTS{number}:" in error.message, error.message
        return error
    raise AssertionError(f"got a token: expected AADSTS{number}")


def status_of(call):
    """Runs a client's call and returns the HTTP status of its answer."""
    return call(cls=lambda pipeline, *_: pipeline.http_response.status_code)


# Identities


@rule
def identity_is_created_updated_read_and_deleted(e):
    def put():
        body = {"location": "westeurope", "tags": {"a": "b"}}
        return status_of(
            lambda **kw: e.identities.create_or_update(e.group, e.name, body, **kw)
        )

    def delete():
        return status_of(lambda **kw: e.identities.delete(e.group, e.name, **kw))

    assert delete() == 200
    assert delete() == 204
    assert put() == 201
    assert put() == 200
    identity = e.identities.get(e.group, e.name)
    assert (identity.name, identity.location) == (e.name, "westeurope")
    assert identity.tenant_id == e.tenant
    assert uuid.UUID(identity.client_id) and uuid.UUID(identity.principal_id)
    assert e.identities.update(e.group, e.name, {"tags": {"c": "d"}}).tags == {"c": "d"}


@rule
def identities_are_listed_by_group_and_subscription(e):
    with e.config(pageSize=1):
        by_group = [i.name for i in e.identities.list_by_resource_group(e.group)]
        by_subscription = [i.name for i in e.identities.list_by_subscription()]
    assert e.name in by_group and e.name in by_subscription
    assert len(by_subscription) >= 2, "the operator's own identity is there as well"


@rule
def missing_identity_is_resource_not_found(e):
    refused(ResourceNotFoundError, 404, "ResourceNotFound", lambda: e.identities.get(e.group, "none"))


@rule
def whoever_asks_may_do_everything(e):
    # The client's own method writes "//" where a resource has no parent.
    def permissions(name):
        path = f"/subscriptions/{e.subscription}/resourceGroups/{e.group}/providers/Microsoft.ManagedIdentity"
        path += f"/userAssignedIdentities/{name}/providers/Microsoft.Authorization/permissions"
        return e.raw(f"{path}?api-version=2022-04-01", authorized=True)

    status, body, _ = permissions(e.name)
    [permission] = PermissionGetResult.deserialize(body).value
    assert (status, permission.actions, permission.not_actions) == (200, ["*"], [])
    assert permissions("none")[0] == 404


# Federated credentials


@rule
def credential_put_answers_201_then_200(e):
    assert status_of(lambda **kw: e.put("first", **kw)) == 201
    assert status_of(lambda **kw: e.put("first", subject="other", **kw)) == 200
    assert e.get("first").subject == "other"


@rule
def credential_is_read_back_as_written(e):
    e.put("Read-Back")
    credential = e.get("read-back")
    assert (credential.issuer, credential.subject) == (e.issuer, e.subject)
    assert credential.audiences == [AUDIENCE]
    assert credential.name == "Read-Back", "the casing of the creation"
    assert f"/resourcegroups/{e.group}/" in credential.id, credential.id


@rule
def list_follows_next_links(e):
    names = {f"page-{n:02}" for n in range(7)}
    for name in names:
        e.put(name, subject=name)
    with e.config(pageSize=3):
        listed = e.list()
    assert {c.name for c in listed} == names and len(listed) == 7
    assert len(e.statuses("credential.list")) == 3
    assert len(e.list(top=2)) == 7, "$top is the size of a page"
    assert len(e.statuses("credential.list")) == 7


@rule
def credential_delete_answers_200_then_204(e):
    e.put("gone")
    assert status_of(lambda **kw: e.delete("gone", **kw)) == 200
    assert status_of(lambda **kw: e.delete("gone", **kw)) == 204
    refused(ResourceNotFoundError, 404, "NotFound", lambda: e.get("gone"))


@rule
def duplicate_issuer_and_subject_is_refused(e):
    e.put("original")
    error = refused(HttpResponseError, 400, "BadRequest", lambda: e.put("duplicate"))
    assert "Issuer and subject combination already exists" in error.message


@rule
def twenty_first_credential_is_refused(e):
    for n in range(20):
        e.put(f"fic-{n}", subject=f"s-{n}")
    code = "FederatedIdentityCredentialLimitExceeded"
    refused(HttpResponseError, 400, code, lambda: e.put("fic-20", subject="s-20"))
    assert len(e.list()) == 20


@rule
def bad_name_is_refused(e):
    for name in ("ab", "-abc", "a.bc", "a" * 121):
        error = refused(HttpResponseError, 400, "BadRequest", lambda: e.put(name))
        assert f"name '{name}' is invalid" in error.message


@rule
def not_exactly_one_audience_is_refused(e):
    for audiences in ([], [AUDIENCE, "other"]):
        error = refused(
            HttpResponseError, 400, "BadRequest", lambda: e.put("fic", audiences=audiences)
        )
        assert "exactly one audience" in error.message


@rule
def over_long_subject_is_refused(e):
    e.put("longest", subject="s" * 600)
    refused(HttpResponseError, 400, "BadRequest", lambda: e.put("longer", subject="s" * 601))


@rule
def missing_parent_is_parent_not_found(e):
    for action in (
        lambda: e.credentials.get(e.group, "none", "fic"),
        lambda: list(e.credentials.list(e.group, "none")),
        lambda: e.credentials.delete(e.group, "none", "fic"),
        lambda: e.credentials.create_or_update(
            e.group,
            "none",
            "fic",
            {"properties": {"issuer": "i", "subject": "s", "audiences": ["a"]}},
        ),
    ):
        refused(ResourceNotFoundError, 404, "ParentResourceNotFound", action)


@rule
def concurrent_writes_on_one_identity_conflict(e):
    with e.config(writeWindowMs=1500):
        writer = threading.Thread(target=e.put, args=("first",))
        writer.start()
        time.sleep(0.5)
        for action in (lambda: e.put("second", subject="second"), lambda: e.delete("first")):
            error = refused(ResourceExistsError, 409, CONCURRENT, action)
            assert e.name in error.message
        writer.join()
        e.put("second", subject="second")


@rule
def delete_under_a_lock_is_scope_locked(e):
    e.put("locked")
    scope = f"/subscriptions/{e.subscription}/resourceGroups/{e.group}"
    e.admin("PUT", "locks", {"scope": scope})
    try:
        refused(ResourceExistsError, 409, "ScopeLocked", lambda: e.delete("locked"))
    finally:
        e.admin("DELETE", "locks")
    e.delete("locked")


# The API as such


@rule
def retry_after_is_honoured_when_throttled(e):
    e.put("read")
    with e.config(throttle=True):
        start = time.monotonic()
        for _ in range(5):
            e.get("read")
        elapsed = time.monotonic() - start
    assert e.statuses("credential.get") == [200, 200, 200, 200, 429, 200]
    assert elapsed >= 1.9, f"the client waited {elapsed:.1f} s only"


@rule
def unsupported_api_version_is_refused(e):
    old = e.client(e.credential(e.operator, e.token_file), api_version="2018-11-30")
    error = refused(
        HttpResponseError,
        400,
        "InvalidResourceType",
        lambda: old.user_assigned_identities.get(e.group, e.name),
    )
    assert "2024-11-30" in error.message


@rule
def missing_api_version_is_refused(e):
    status, answer, _ = e.raw("/subscriptions", authorized=True)
    assert (status, answer["error"]["code"]) == (400, "MissingApiVersionParameter"), answer


@rule
def paths_are_case_insensitive(e):
    path = f"/SUBSCRIPTIONS/{e.subscription}/resourcegroups/{e.group.upper()}"
    path += f"/providers/microsoft.managedidentity/userassignedidentities/{e.name.upper()}"
    status, answer, headers = e.raw(f"{path}?api-version=2024-11-30", authorized=True)
    assert (status, answer["name"]) == (200, e.name), answer
    assert uuid.UUID(headers["x-ms-request-id"])
    assert int(headers["x-ms-ratelimit-remaining-subscription-reads"]) > 0


@rule
def request_without_a_token_is_challenged(e):
    status, answer, headers = e.raw("/subscriptions?api-version=2022-12-01", authorized=False)
    assert (status, answer["error"]["code"]) == (401, "AuthenticationFailed"), answer
    assert headers["WWW-Authenticate"].startswith("Bearer authorization_uri=")


@rule
def token_of_someone_else_is_refused(e):
    class Stranger:
        def get_token(self, *_scopes, **_options):
            return AccessToken("a.b.c", int(time.time()) + 600)

    client = e.client(Stranger())
    error = refused(
        ClientAuthenticationError,
        401,
        "InvalidAuthenticationToken",
        lambda: client.user_assigned_identities.get(e.group, e.name),
    )
    assert error.response.headers["WWW-Authenticate"].startswith("Bearer authorization_uri=")


@rule
def token_for_another_resource_is_refused_by_arm(e):
    class Elsewhere:
        def get_token(self, *_scopes, **_options):
            credential = e.credential(e.operator, e.token_file)
            return credential.get_token("https://vault.azure.net/.default")

    client = e.client(Elsewhere())
    refused(
        ClientAuthenticationError,
        401,
        "InvalidAuthenticationToken",
        lambda: client.user_assigned_identities.get(e.group, e.name),
    )


# Token exchange


@rule
def token_is_exchanged(e):
    e.put("worker")
    token = e.exchange()
    assert token.token.count(".") == 2
    assert token.expires_on > time.time() + 600
    assert claims_of(token.token)["appid"] == e.client_id


@rule
def exchange_without_credentials_is_70025(e):
    refused_token(70025, e.exchange)


@rule
def exchange_of_another_issuer_is_700211(e):
    e.put("other", issuer=e.issuer.rstrip("/") + "/other/")
    error = refused_token(700211, e.exchange)
    assert f"'{e.issuer}'" in error.message


@rule
def exchange_with_another_trailing_slash_is_700211(e):
    other = e.issuer[:-1] if e.issuer.endswith("/") else e.issuer + "/"
    e.put("slash", issuer=other)
    refused_token(700211, e.exchange)


@rule
def exchange_of_another_subject_is_700213(e):
    e.put("worker")
    error = refused_token(700213, lambda: e.exchange(e.wrong_token_file))
    wrong = claims_of(pathlib.Path(e.wrong_token_file).read_text())["sub"]
    assert f"'{wrong}'" in error.message


@rule
def exchange_of_a_subject_in_other_case_is_7002138(e):
    e.put("case", subject=e.subject.upper())
    refused_token(7002138, e.exchange)


@rule
def exchange_of_another_audience_is_700212(e):
    e.put("audience", audiences=["api://AzureADTokenExchangeUSGov"])
    error = refused_token(700212, e.exchange)
    assert AUDIENCE in error.message


@rule
def exchange_for_an_unknown_client_is_700016(e):
    refused_token(700016, lambda: e.exchange(client_id=str(uuid.uuid4())))


@rule
def exchange_with_an_unknown_key_is_7000272(e):
    e.put("worker")
    with forged(e.token, header={"kid": "unknown"}) as file:
        refused_token(7000272, lambda: e.exchange(file))


@rule
def exchange_of_changed_claims_is_700027(e):
    e.put("worker")
    with forged(e.token, claims={"sub": "system:serviceaccount:kube-system:admin"}) as file:
        refused_token(700027, lambda: e.exchange(file))


@rule
def exchange_with_an_unreachable_issuer_is_50166(e):
    nowhere = "https://127.0.0.1:1/"
    e.put("nowhere", issuer=nowhere)
    with forged(e.token, claims={"iss": nowhere}) as file:
        refused_token(50166, lambda: e.exchange(file))


@rule
def credential_is_exchanged_only_when_propagated(e):
    with e.config(propagationMs=1500):
        e.put("worker")
        refused_token(70025, e.exchange)
        time.sleep(1.5)
        e.exchange()


@rule
def deleted_credential_is_not_exchanged(e):
    e.put("worker")
    e.exchange()
    e.delete("worker")
    refused_token(70025, e.exchange)


# Faults: they must look to a client like Azure's


@rule
def fault_is_seen_as_azure_error(e):
    fault = {"operation": "credential.put", "status": 403, "code": "AuthorizationFailed"}
    with e.fault(**fault, times=1, message="no"):
        refused(HttpResponseError, 403, "AuthorizationFailed", lambda: e.put("fic"))
    e.put("fic")


@rule
def fault_on_token_is_seen_as_oauth_error(e):
    e.put("worker")
    message = "AADSTS700211: No matching federated identity record found."
    fault = {"operation": "token", "status": 401, "code": "invalid_client", "message": message}
    with e.fault(**fault, times=1):
        refused_token(700211, e.exchange)
    e.exchange()


@rule
def fault_reset_drops_the_connection(e):
    e.list()
    with e.fault(operation="credential.list", action="reset", times=1):
        try:
            e.list(retry_total=0)
        except ServiceResponseError:
            pass
        else:
            raise AssertionError("an answer arrived")
    e.list()


@rule
def fault_hang_runs_into_the_clients_timeout(e):
    with e.fault(operation="credential.list", action="hang", times=1):
        try:
            e.list(retry_total=0, read_timeout=1)
        except ServiceResponseError as error:
            assert "timed out" in str(error), error
        else:
            raise AssertionError("an answer arrived")


@rule
def fault_garbage_is_not_json(e):
    with e.fault(operation="credential.list", action="garbage", times=1):
        try:
            e.list()
        except DecodeError:
            pass
        else:
            raise AssertionError("it was understood")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="URL of the emulator")
    parser.add_argument("--ca", required=True, help="CA of its certificate (PEM)")
    parser.add_argument("--token-file", required=True, help="ServiceAccount token")
    parser.add_argument("--wrong-token-file", required=True, help="token of another account")
    parser.add_argument("--tenant", required=True, help="tenant of the operator's identity")
    parser.add_argument("--client", required=True, help="its client id; it trusts the token")
    parser.add_argument("--identity", required=True, help="resource id of an identity to create")
    # Refused exchanges are what is checked; azure-identity would warn about each.
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)
    emulator = Emulator(parser.parse_args())
    failed = 0
    for check in RULES:
        try:
            emulator.fresh_identity()
            check(emulator)
        except Exception:
            failed += 1
            print(f"FAILED {check.__name__}", flush=True)
            traceback.print_exc()
        else:
            print(f"ok {check.__name__}", flush=True)
    emulator.identities.delete(emulator.group, emulator.name)
    print(f"{len(RULES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
