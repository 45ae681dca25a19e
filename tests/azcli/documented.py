"""Parses every az command of the given Markdown documents with the CLI's own parser; runs none.

A placeholder such as <group> counts as a value. A command in the text, other than in a block of
code, counts if it has an option.
"""

import contextlib
import io
import re
import shlex
import sys

from azure.cli.core import get_default_cli
from azure.cli.core.commands import AzCliCommandInvoker

RESOURCE = "/subscriptions/0/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/n"

# What comes between the parser and the wire: signing in, asking the user, the request.
AzCliCommandInvoker._validation = lambda *_: None
AzCliCommandInvoker.resolve_confirmation = lambda *_: None
AzCliCommandInvoker._run_job = lambda *_: None


def commands(text: str) -> list[str]:
    block = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.S | re.M)
    code = [body for language, body in block.findall(text) if language in ("sh", "console")]
    inline = re.findall(r"`([^`]+)`", block.sub("", text))
    code += [" ".join(command.split()) for command in inline if " -" in command]
    found = []
    for body in code:
        body = body.replace("\\\n", " ")
        while inner := re.search(r"\$\(((?:az|kubectl) [^()]*)\)", body):
            found.append(inner[1])
            body = body[: inner.start()] + "value" + body[inner.end() :]
        found += [re.sub(r"^\s*(\$ )?", "", line) for line in body.splitlines()]
    return [command for command in found if command.startswith("az ")]


def problem(command: str) -> str | None:
    said = io.StringIO()
    try:
        words = shlex.split(command.replace("<resource-id>", RESOURCE), comments=True)[1:]
        if "|" in words:
            words = words[: words.index("|")]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            if get_default_cli().invoke(words) == 0:
                return None
    except (Exception, SystemExit) as error:
        return f"{error}: {said.getvalue()}"
    return said.getvalue()


def main(paths: list[str]) -> int:
    count = 0
    is_wrong = False
    for path in paths:
        with open(path) as file:
            for command in commands(file.read()):
                count += 1
                if (said := problem(command)) is not None:
                    is_wrong = True
                    print(f"{path}: {command}\n{said}")
    print(f"{count} commands", file=sys.stderr)
    return is_wrong or count == 0


sys.exit(main(sys.argv[1:]))
