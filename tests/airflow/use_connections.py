"""Uses the Airflow connections named as arguments, as a person and as a task would.

Works with Airflow 2 and 3. Each connection is read with `airflow connections get`; then the hook
of its type, sync and async, sends its first request to Azure. The request gets as far as the wire:
its access token is from Entra (the emulator), and it is held back with that token in it. Neither
the credential nor the scope of the token comes from here, both are what the hook makes of the
connection.

With --look-up first it is the lookup itself, by Airflow's secrets backend, that is held back.

The last line of the output is {id: what was found, or {"error": "<type>: <message>"}}.
"""

import asyncio
import base64
import contextlib
import functools
import io
import json
import os
import re
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import kubernetes.config

if "KUBECONFIG" in os.environ:
    # Airflow's Kubernetes backend, which is imported with Airflow, signs in as pods do only.
    kubernetes.config.load_incluster_config = kubernetes.config.load_kube_config

import requests
from airflow.cli.cli_parser import get_parser
from airflow.providers.common.compat.sdk import BaseHook
from airflow.providers.microsoft.azure.hooks.ai_agents import AzureAIAgentsAsyncHook
from airflow.providers.microsoft.azure.hooks.asb import AdminClientHook
from airflow.providers.microsoft.azure.hooks.compute import AzureComputeHook
from airflow.providers.microsoft.azure.hooks.container_instance import (
    AzureContainerInstanceAsyncHook,
)
from airflow.providers.microsoft.azure.hooks.container_registry import AzureContainerRegistryHook
from airflow.providers.microsoft.azure.hooks.data_factory import AzureDataFactoryAsyncHook
from airflow.providers.microsoft.azure.hooks.synapse import (
    AzureSynapseHook,
    AzureSynapsePipelineAsyncHook,
)
from airflow.providers.microsoft.azure.hooks.wasb import WasbAsyncHook
from airflow.providers.microsoft.azure.utils import AzureIdentityCredentialAdapter
from azure import identity
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity import aio

ENTRA = os.environ["AZURE_AUTHORITY_HOST"]
ARM = "https://management.azure.com"


def azure(hook: Any) -> None:
    """The hook without a client: its users take the credential to one of their own."""
    credential = hook.get_credential()
    if isinstance(credential, AzureIdentityCredentialAdapter):
        credential.signed_session().get(f"{ARM}/subscriptions")
    else:
        bearer = f"Bearer {hook.get_token(f'{ARM}/.default').token}"
        requests.get(f"{ARM}/subscriptions", headers={"Authorization": bearer}, timeout=10)


# The hook where Airflow's own map from type to hook does not lead to one that works: two lead to a
# base class, and that of the registry takes another argument than it says.
HOOKS: dict[str, Callable[[str], Any]] = {
    "azure_container_registry": AzureContainerRegistryHook,
    "azure_service_bus": AdminClientHook,
    "azure_synapse": AzureSynapseHook,
}

# A first request. Other types have a test, which is what the button in Airflow's UI calls. (That of
# ADLS asks the blob endpoint, and that of Data Factory nobody.)
FIRST_REQUESTS: dict[str, Callable[[Any], Any]] = {
    "adls": lambda hook: hook.list_files_directory("container", "folder"),
    "azure": azure,
    "azure_ai_agents": lambda hook: hook.get_agent("agent"),
    "azure_container_registry": lambda hook: hook.get_conn(),
    "azure_container_volume": lambda hook: hook.get_storagekey(storage_account_name="account"),
    "azure_data_explorer": lambda hook: hook.run_query("print 1", "database"),
    "azure_data_factory": lambda hook: hook.get_factory("group", "factory"),
    "azure_service_bus": lambda hook: hook.delete_queue("queue"),
    "azure_synapse": lambda hook: hook.get_conn().spark_batch.get_spark_batch_jobs(),
}


async def account(hook: WasbAsyncHook) -> None:
    await (await hook.get_async_conn()).get_account_information()


async def pipeline_run(conn_id: str) -> None:
    # The workspace is an argument of the pipeline operators, not taken from the connection.
    hook = AzureSynapsePipelineAsyncHook("https://w.dev.azuresynapse.net", conn_id)
    await hook.get_pipeline_run("1")


# Triggers have hooks of their own.
ASYNC_REQUESTS: dict[str, Callable[[str], Coroutine[Any, Any, Any]]] = {
    "azure_ai_agents": lambda id: AzureAIAgentsAsyncHook(id).async_get_agent_version("a", "1"),
    "azure_compute": lambda id: AzureComputeHook(id).async_get_power_state("group", "machine"),
    "azure_container_instance": lambda id: AzureContainerInstanceAsyncHook(id).get_state("g", "n"),
    "azure_data_factory": lambda id: AzureDataFactoryAsyncHook(id).get_pipeline_run("1", "g", "f"),
    "azure_synapse": pipeline_run,
    "wasb": lambda id: account(WasbAsyncHook(id)),
}


class HeldBack(BaseException):
    """A request to Azure. Not an `Exception`: hooks and clients catch those and try again."""


class Refused(BaseException):
    """Entra's answer, at once: storage clients would ask again for minutes."""


def hold_back(url: str, headers: Any) -> None:
    if not url.startswith(ENTRA):
        raise HeldBack(url, headers.get("Authorization", ""))


def watch_the_network() -> None:
    send, async_send = requests.adapters.HTTPAdapter.send, AioHttpTransport.send

    def hooked(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        if request.url.endswith("/v1/rest/auth/metadata"):
            # Data Explorer's client asks the cluster which cloud it is in: 404 is the public one.
            response = requests.Response()
            response.status_code = 404
            return response
        if ".vault." in request.url and "Authorization" not in request.headers:
            # Key Vault's client asks first who may sign in: the vault names tenant and resource.
            response = requests.Response()
            response.status_code, response.raw = 401, io.BytesIO()
            response.headers["WWW-Authenticate"] = (
                f'Bearer authorization="{ENTRA}tenant", resource="https://vault.azure.net"'
            )
            return response
        hold_back(request.url, request.headers)
        response = send(self, request, *args, **kwargs)
        if not response.ok:
            raise Refused(response.text)
        return response

    async def async_hooked(self: Any, request: Any, **kwargs: Any) -> Any:
        hold_back(request.url, request.headers)
        response = await async_send(self, request, **kwargs)
        if response.status_code >= 400:
            raise Refused(f"{response.status_code} {response.reason}")
        return response

    requests.adapters.HTTPAdapter.send, AioHttpTransport.send = hooked, async_hooked


asked: list[str] = []


def watch_the_credentials() -> None:
    """Notes who is asked for a token; the first one is the credential that the hook built."""

    def watch(owner: type, name: str) -> None:
        method = getattr(owner, name)

        @functools.wraps(method)
        def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
            asked.append(type(self).__name__)
            return method(self, *args, **kwargs)

        setattr(owner, name, noted)

    watch(AzureIdentityCredentialAdapter, "signed_session")
    for module in (identity, aio):
        for owner in (module.DefaultAzureCredential, module.ClientSecretCredential):
            watch(owner, "get_token")
            watch(owner, "get_token_info")


def first_request(use: Callable[[], Any]) -> dict[str, str]:
    """The request with which the use began: by whom, as whom, for what and where to."""
    asked.clear()
    try:
        result = use()
    except HeldBack as request:
        url, authorization = request.args
    else:
        raise RuntimeError(f"no request was sent: {result}")
    if "none" in re.split("[/.]", url.lower()):
        raise ValueError(f"the connection lacks something: the request went to {url}")
    if not authorization.startswith("Bearer "):
        raise ValueError(f"the request to {url} has no access token")
    claims = authorization.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    return {
        "credential": asked[0],
        "client_id": claims["appid"],
        "audience": claims["aud"],
        "url": url,
    }


def get(conn_id: str) -> dict[str, Any]:
    """What `airflow connections get` prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        args = get_parser().parse_args(["connections", "get", conn_id, "-o", "json"])
        args.func(args)
    # Airflow 3's command makes this process a server; the hooks are used as in a task.
    os.environ.pop("_AIRFLOW_PROCESS_CONTEXT", None)
    # Airflow 2 may print warnings before it.
    text = output.getvalue()
    return json.loads(text[text.index("[{") :])[0]


def use(conn_id: str) -> dict[str, Any]:
    connection = get(conn_id)
    conn_type = connection["conn_type"]
    hook = HOOKS.get(conn_type, BaseHook.get_hook)(conn_id)
    request = FIRST_REQUESTS.get(conn_type, lambda hook: hook.test_connection())
    found = first_request(lambda: request(hook))
    if conn_type in ASYNC_REQUESTS:
        later = first_request(lambda: asyncio.run(ASYNC_REQUESTS[conn_type](conn_id)))
        for key in ("credential", "client_id", "audience"):
            if later[key] != found[key]:
                raise ValueError(f"the async hook has another {key}: {later[key]}")
    fields = {key: connection[key] for key in ("conn_type", "host", "login", "schema")}
    # The command prints true as "True", but objects as they are; hooks get the value.
    extra = BaseHook.get_connection(conn_id).extra_dejson
    printed = {key: v if isinstance(v, dict) else str(v) for key, v in extra.items()}
    if printed != connection["extra_dejson"]:
        raise ValueError(f"the command prints another extra: {connection['extra_dejson']}")
    return {**fields, "extra": extra, **found}


def look_up(conn_id: str) -> dict[str, Any]:
    """The request with which Airflow's secrets backend looks the connection up."""
    return first_request(lambda: get(conn_id))


def main(args: list[str]) -> None:
    watch_the_network()
    watch_the_credentials()
    find, conn_ids = (look_up, args[1:]) if args[0] == "--look-up" else (use, args)
    found: dict[str, Any] = {}
    for conn_id in conn_ids:
        try:
            found[conn_id] = find(conn_id)
        except (Exception, SystemExit, Refused) as error:
            found[conn_id] = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(found), flush=True)
    # Python would report, after the last line, the sessions that the async hooks left open.
    os._exit(0)


main(sys.argv[1:])
