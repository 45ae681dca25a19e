r"""Checks the chart's dashboard and alerts against a Prometheus that scrapes the operator.

Runs every query of the dashboard and every rule that this Prometheus has loaded. A query fails if
Prometheus refuses it, if it brings nothing, or if it asks for a metric or a label that was never
served: that last one, because `or vector(0)` would make a misspelt metric look healthy.
Prints a line for each panel and rule; exits with 1 if one fails. With --picture it draws the
dashboard as Grafana lays it out, since Grafana itself is not at hand.

    python=$(tests/python/venv monitoring tests/monitoring/requirements.txt)
    "$python" tests/monitoring/check.py http://127.0.0.1:9090 \
      charts/airflow-workload-identity/files/dashboard.json --picture dashboard.png
"""

import argparse
import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import picture

# How many points a line has: enough for the width of a panel.
POINTS = 200


class Problem(Exception):
    """Why a panel or a rule fails."""


class Prometheus:
    """The server, and the time that is looked at."""

    def __init__(self, url, seconds):
        self.url = url.rstrip("/")
        self.end = time.time()
        self.start = self.end - seconds
        self.step = max(1, seconds // POINTS)
        # Grafana's is at least four scrapes, and grows with the time looked at.
        self.rate_interval = f"{max(15, seconds // 10)}s"
        self.labels = {}

    def get(self, path, **parameters):
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise Problem(json.load(error)["error"]) from None
        except urllib.error.URLError as error:
            sys.exit(f"error: there is no Prometheus at {self.url}: {error.reason}")

    def query(self, expr, instant):
        """The series of a query: labels, times and values, without those that are no numbers."""
        expr = expr.replace("$__rate_interval", self.rate_interval)
        if instant:
            data = self.get("query", query=expr, time=self.end)
        else:
            span = {"start": self.start, "end": self.end, "step": self.step}
            data = self.get("query_range", query=expr, **span)
        series = []
        for result in data["result"]:
            points = result.get("values") or [result["value"]]
            points = [(at, float(value)) for at, value in points if math.isfinite(float(value))]
            if points:
                times, values = zip(*points)
                series.append((result["metric"], (times, values)))
        return series

    def labels_of(self, metric):
        """All labels with which a metric was served."""
        if metric not in self.labels:
            found = self.get("series", **{"match[]": metric, "start": self.start, "end": self.end})
            self.labels[metric] = {label for series in found for label in series}
        if not self.labels[metric]:
            raise Problem(f"Prometheus has no {metric}")
        return self.labels[metric]


def check_words(prometheus, expr):
    """The operator's metrics in an expression were served, with the labels that it names."""
    served = set()
    for metric, matchers in re.findall(r"\b(awi_\w+)(?:\{(.*?)\})?", expr):
        labels = prometheus.labels_of(metric)
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", matchers):
            if label not in labels:
                raise Problem(f"{metric} has no label {label}")
        served |= labels
    for group in re.findall(r"\b(?:by|on)\s*\((.*?)\)", expr):
        for label in re.findall(r"\w+", group):
            if label not in served:
                raise Problem(f"no metric of the query has the label {label}")


def check_target(prometheus, target):
    expr = target["expr"]
    check_words(prometheus, expr)
    series = prometheus.query(expr, target["instant"])
    if not series:
        raise Problem(f"brings nothing: {expr}")
    for label in re.findall(r"{{(\w+)}}", target.get("legendFormat", "")):
        if not all(label in labels for labels, _ in series):
            raise Problem(f"the legend names the label {label}, and a series has none: {expr}")
    return target, series


def check_panel(prometheus, panel):
    if not panel.get("description"):
        raise Problem("has no description")
    for source in [panel, *panel["targets"]]:
        if source["datasource"]["uid"] != "${datasource}":
            raise Problem("does not use the variable datasource")
    return [check_target(prometheus, target) for target in panel["targets"]]


def check_rule(prometheus, rule):
    check_words(prometheus, rule["query"])
    prometheus.query(rule["query"], instant=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="URL of the Prometheus server, its rule_files with the alerts")
    parser.add_argument("dashboard", help="the dashboard's JSON")
    parser.add_argument("--seconds", type=int, default=300, help="how far to look back")
    parser.add_argument("--picture", help="PNG to draw the dashboard to")
    args = parser.parse_args()

    prometheus = Prometheus(args.url, args.seconds)
    with open(args.dashboard, encoding="utf-8") as file:
        dashboard = json.load(file)
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    groups = prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    checks = [(f"panel {panel['title']}", check_panel, panel) for panel in panels]
    checks += [(f"rule {rule['name']}", check_rule, rule) for rule in rules]

    failed, answers = 0, {}
    for name, check, what in checks:
        try:
            answers[what.get("id")] = check(prometheus, what)
        except Problem as problem:
            failed += 1
            print(f"FAILED {name}: {problem}")
        else:
            print(f"ok {name}")
    for kind, found in [("panels in the dashboard", panels), ("rules in Prometheus", rules)]:
        if not found:
            failed += 1
            print(f"FAILED there are no {kind}")

    if args.picture:
        picture.draw(dashboard, answers, (prometheus.start, prometheus.end), args.picture)
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
