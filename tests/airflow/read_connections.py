"""Prints, as one line of JSON, what Airflow makes of the connections named as arguments."""

import json
import sys

from airflow.providers.microsoft.azure.hooks.base_azure import AzureBaseHook


def read(conn_id: str) -> dict:
    hook = AzureBaseHook(sdk_client=None, conn_id=conn_id)
    connection = hook.get_connection(conn_id)
    return {
        "conn_type": connection.conn_type,
        "extra": connection.extra_dejson,
        "credential": type(hook.get_credential()).__name__,
    }


print(json.dumps({conn_id: read(conn_id) for conn_id in sys.argv[1:]}))
