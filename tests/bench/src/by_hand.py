"""Does for each object what the guide says, as one does it by hand: Microsoft's SDK for the federated
credentials, kubectl for annotations and connection. Reads a list of objects from standard input; prints how many
seconds it took."""

import argparse
import json
import subprocess
import sys
import time

from azure.identity import WorkloadIdentityCredential
from azure.mgmt.msi import ManagedServiceIdentityClient

AUDIENCE = "api://AzureADTokenExchange"

parser = argparse.ArgumentParser()
for name in ["url", "ca", "tenant", "client", "token-file", "issuer", "kubectl"]:
    parser.add_argument(f"--{name}", required=True)
args = parser.parse_args()


def kubectl(*words):
    subprocess.run([args.kubectl, *words], check=True, stdout=subprocess.DEVNULL)


def main():
    credential = WorkloadIdentityCredential(
        tenant_id=args.tenant,
        client_id=args.client,
        token_file_path=args.token_file,
        authority=args.url,
        connection_verify=args.ca,
        disable_instance_discovery=True,
    )
    objects = json.load(sys.stdin)
    start = time.monotonic()
    for wanted in objects:
        _, _, subscription, _, group, *_, name = wanted["identity"].split("/")
        azure = ManagedServiceIdentityClient(
            credential,
            subscription,
            base_url=args.url,
            connection_verify=args.ca,
            credential_scopes=[f"{args.url}/.default"],
        )
        identity = azure.user_assigned_identities.get(group, name)
        namespace = wanted["namespace"]
        for account in wanted["accounts"]:
            trust = {
                "issuer": args.issuer,
                "subject": f"system:serviceaccount:{namespace}:{account}",
                "audiences": [AUDIENCE],
            }
            azure.federated_identity_credentials.create_or_update(
                group, name, f"{namespace}-{account}", {"properties": trust}
            )
            kubectl(
                "annotate", "serviceaccount", account, f"--namespace={namespace}",
                f"azure.workload.identity/client-id={identity.client_id}",
                f"azure.workload.identity/tenant-id={identity.tenant_id}",
            )
        kubectl(
            "create", "secret", "generic", f"{wanted['name']}-connections", f"--namespace={namespace}",
            "--from-literal=AIRFLOW_CONN_AZURE_DEFAULT=" + json.dumps({"conn_type": "azure"}),
        )
    print(time.monotonic() - start)


main()
