"""Checks the emulator's Microsoft Graph with Microsoft's own SDK, msgraph.

Prints a line for each rule; exits with 1 if one fails.
"""

import argparse
import asyncio
import base64
import json
import pathlib
import sys
import traceback
import uuid

import httpx
from azure.identity import WorkloadIdentityCredential
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_authentication_azure.azure_identity_authentication_provider import (
    AzureIdentityAuthenticationProvider,
)
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.models.application import Application
from msgraph.generated.models.federated_identity_credential import FederatedIdentityCredential
from msgraph.generated.models.o_data_errors.o_data_error import ODataError

AUDIENCE = "api://AzureADTokenExchange"
RULES = []


def rule(function):
    """Marks a check; its name is the rule."""
    RULES.append(function)
    return function


class Emulator:
    """The emulator under test, and the client of an application's owner."""

    def __init__(self, args):
        self.args = args
        self.http = httpx.AsyncClient(verify=args.ca, base_url=f"{args.url}/v1.0/")
        self.graph = self.client(f"{args.url}/.default")
        self.application = None

    def credential(self, client_id):
        return WorkloadIdentityCredential(
            tenant_id=self.args.tenant,
            client_id=client_id,
            token_file_path=self.args.token_file,
            authority=self.args.url,
            connection_verify=self.args.ca,
            disable_instance_discovery=True,
            retry_total=0,
        )

    def client(self, scope):
        host = httpx.URL(self.args.url).host
        provider = AzureIdentityAuthenticationProvider(
            self.credential(self.args.client), scopes=[scope], allowed_hosts=[host]
        )
        adapter = GraphRequestAdapter(provider, client=self.http)
        adapter.base_url = f"{self.args.url}/v1.0"
        return GraphServiceClient(request_adapter=adapter)

    async def fresh_application(self):
        application = Application(display_name=f"conformance-{uuid.uuid4()}")
        self.application = await self.graph.applications.post(application)

    @property
    def credentials(self):
        return self.item.federated_identity_credentials

    @property
    def item(self):
        return self.graph.applications.by_application_id(self.application.id)

    async def list(self):
        return (await self.credentials.get()).value

    async def upsert(self, name, prefer="create-if-missing", **properties):
        """As the operator does it: by the application's client ID and the credential's name."""
        by_name = self.item.federated_identity_credentials_with_name(name).with_url(
            f"{self.args.url}/v1.0/applications(appId='{self.application.app_id}')"
            f"/federatedIdentityCredentials(name='{name}')"
        )
        configuration = RequestConfiguration()
        if prefer:
            configuration.headers.add("Prefer", prefer)
        body = credential(**properties)
        return await by_name.patch(body, request_configuration=configuration)


def credential(name=None, subject="system:serviceaccount:airflow:worker", **properties):
    properties.setdefault("issuer", "https://oidc.example/cluster/")
    properties.setdefault("audiences", [AUDIENCE])
    return FederatedIdentityCredential(name=name, subject=subject, **properties)


async def refused(awaitable, status, code):
    try:
        await awaitable
    except ODataError as error:
        assert (error.response_status_code, error.error.code) == (status, code), error
        return error.error.message
    raise AssertionError("it was not refused")


@rule
async def an_application_is_found_by_its_client_id(e):
    found = await e.graph.applications_with_app_id(e.application.app_id).get()
    assert (found.id, found.display_name) == (e.application.id, e.application.display_name)


@rule
async def an_application_that_does_not_exist_is_404(e):
    missing = e.graph.applications_with_app_id(str(uuid.uuid4()))
    await refused(missing.get(), 404, "Request_ResourceNotFound")


@rule
async def upsert_creates_with_a_body_and_updates_without_one(e):
    created = await e.upsert("fic-1", description="ours")
    assert (created.name, created.description, created.audiences) == ("fic-1", "ours", [AUDIENCE])
    assert await e.upsert("fic-1", subject="another") is None
    [listed] = await e.list()
    assert (listed.id, listed.subject, listed.description) == (created.id, "another", "ours")


@rule
async def without_the_preference_a_patch_creates_nothing(e):
    await refused(e.upsert("fic-1", prefer=None), 404, "Request_ResourceNotFound")
    assert await e.list() == []


@rule
async def a_credential_is_found_by_id_and_by_name(e):
    created = await e.credentials.post(credential(name="fic-1"))
    by_id = await e.credentials.by_federated_identity_credential_id(created.id).get()
    by_name = await e.item.federated_identity_credentials_with_name("fic-1").get()
    assert by_id.name == "fic-1" and by_name.id == created.id


@rule
async def a_name_and_a_tuple_are_taken_once(e):
    await e.credentials.post(credential(name="fic-1"))
    again = e.credentials.post(credential(name="fic-1", subject="another"))
    await refused(again, 409, "Request_MultipleObjectsWithSameKeyValue")
    message = await refused(e.upsert("fic-2"), 400, "InvalidFederatedIdentityCredentialValue")
    assert "issuer and subject must be unique" in message, message


@rule
async def a_deleted_credential_is_gone(e):
    await e.upsert("fic-1")
    by_name = e.item.federated_identity_credentials_with_name("fic-1")
    await by_name.delete()
    assert await e.list() == []
    await refused(by_name.delete(), 404, "Request_ResourceNotFound")


@rule
async def twenty_credentials_are_the_most(e):
    for n in range(20):
        await e.upsert(f"fic-{n}", subject=str(n))
    await refused(e.upsert("fic-20", subject="20"), 400, "FederatedIdentityCredentialLimitExceeded")
    assert len(await e.list()) == 20


@rule
async def a_token_for_resource_manager_is_not_one_for_graph(e):
    other = e.client("https://management.azure.com/.default")
    asked = other.applications_with_app_id(e.application.app_id).get()
    await refused(asked, 401, "InvalidAuthenticationToken")


@rule
async def an_application_signs_in_with_what_it_trusts(e):
    claims = pathlib.Path(e.args.token_file).read_text().split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    await e.upsert("fic-1", issuer=claims["iss"], subject=claims["sub"])
    access = e.credential(e.application.app_id).get_token("https://storage.azure.com/.default")
    assert access.token


async def run(args):
    emulator, failed = Emulator(args), 0
    for check in RULES:
        try:
            await emulator.fresh_application()
            await check(emulator)
            await emulator.item.delete()
        except Exception:
            failed += 1
            print(f"FAILED {check.__name__}", flush=True)
            traceback.print_exc()
        else:
            print(f"ok {check.__name__}", flush=True)
    print(f"{len(RULES) - failed} passed, {failed} failed")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="URL of the emulator")
    parser.add_argument("--ca", required=True, help="CA of its certificate (PEM)")
    parser.add_argument("--token-file", required=True, help="ServiceAccount token")
    parser.add_argument("--tenant", required=True, help="tenant of the caller's identity")
    parser.add_argument("--client", required=True, help="its client id; it trusts the token")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
