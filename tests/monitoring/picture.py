"""Draws a Grafana dashboard with matplotlib: what a person needs in order to judge it, no more."""

import re

import matplotlib

matplotlib.use("Agg")
from matplotlib import dates, pyplot, ticker  # noqa: E402

# Inches for one of Grafana's 24 columns and for one unit of a panel's height; pixels of an inch.
COLUMN, UNIT, DPI = 0.75, 0.42, 90
GREY, LINE = "#6b7280", "#d1d5db"
COLORS = {"green": "#4a9c3f", "orange": "#e8871e", "red": "#d43a4a", "blue": "#3a78c9"}
PALETTE = "#3a78c9 #e8a317 #8e5bb5 #2aa5a0 #b0703c #c75b9b #7d8794 #93b52d".split()


def draw(dashboard, answers, span, path):
    """`answers` holds what the queries of each panel brought, by the panel's id; `span` is the
    time that they looked at, from and to."""
    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = pyplot.figure(figsize=(24 * COLUMN, height * UNIT), dpi=DPI, facecolor=LINE)
    cells = figure.add_gridspec(height, 24, left=0, right=1, bottom=0, top=1, wspace=0, hspace=0)
    for panel in panels:
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        place = figure.add_subfigure(cells[y : y + h, x : x + w])
        if panel["type"] == "row":
            place.text(0.005, 0.25, panel["title"], size=13, weight="bold")
            continue
        place.set(facecolor="white", edgecolor=LINE, linewidth=5)
        width, height = w * COLUMN, h * UNIT
        place.text(0.14 / width, 1 - 0.28 / height, panel["title"], size=10, weight="bold")
        paint, left, top, right, bottom = PAINT[panel["type"]]
        inner = 1 - (left + right) / width, 1 - (top + bottom) / height
        axes = place.add_axes((left / width, bottom / height, *inner))
        axes.spines[:].set_visible(False)
        axes.tick_params(labelsize=8, colors=GREY, length=0)
        if answers.get(panel["id"]):
            paint(axes, panel, list(named(answers[panel["id"]])), span)
        else:
            blank(axes)
            axes.text(0.5, 0.5, "No data", size=14, color=GREY, ha="center")
    figure.savefig(path)
    pyplot.close(figure)


def named(answers):
    """Each series under the name that its target's legend gives it."""
    for target, series in answers:
        legend = target.get("legendFormat", "")
        for labels, points in series:
            name = re.sub(r"{{(\w+)}}", lambda found, labels=labels: labels[found[1]], legend)
            yield name, labels, points


def overrides(panel):
    """What is set for single series or columns, by their name."""
    return {
        one["matcher"]["options"]: {item["id"]: item["value"] for item in one["properties"]}
        for one in panel["fieldConfig"]["overrides"]
    }


def reached(thresholds, value):
    """The colour of the highest threshold that the value reaches."""
    steps = thresholds["steps"]
    return [COLORS[step["color"]] for step in steps if value >= (step["value"] or 0)][-1]


def blank(axes):
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])


def paint_stat(axes, panel, series, _):
    blank(axes)
    for index, (name, _, (_, values)) in enumerate(series):
        x = (index + 0.5) / len(series)
        color = reached(panel["fieldConfig"]["defaults"]["thresholds"], values[-1])
        axes.text(x, 0.4, f"{values[-1]:g}", size=28, weight="bold", color=color, ha="center")
        axes.text(x, 0.1, name, size=10, color=GREY, ha="center")


def paint_timeseries(axes, panel, series, span):
    defaults, override = panel["fieldConfig"]["defaults"], overrides(panel)
    series = sorted(series, key=lambda one: one[0])
    names = [name for name, _, _ in series]
    colors = [PALETTE[index % len(PALETTE)] for index in range(len(series))]
    for index, name in enumerate(names):
        if name in override:
            colors[index] = COLORS[override[name]["color"]["fixedColor"]]
    if defaults["custom"]["stacking"]["mode"] == "normal":
        moments = sorted({at for _, _, (times, _) in series for at in times})
        heights = [[dict(zip(*points)).get(at, 0) for at in moments] for _, _, points in series]
        axes.stackplot(days(moments), heights, labels=names, colors=colors, alpha=0.75)
    else:
        for name, color, (_, _, (times, values)) in zip(names, colors, series):
            axes.plot(days(times), values, label=name, color=color)
    top = defaults.get("max", 1.05 * axes.dataLim.y1 or 1)
    axes.set(xlim=days(span), ylim=(0, top), xticks=days(ticks(*span)))
    axes.autoscale(False)
    for step in defaults.get("thresholds", {"steps": []})["steps"]:
        if step["value"] is not None:
            axes.axhline(step["value"], color=COLORS[step["color"]], linewidth=1, linestyle="--")
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(4))
    if defaults["unit"] == "s":
        axes.yaxis.set_major_formatter(ticker.EngFormatter("s"))
    axes.set_ylabel(defaults["custom"]["axisLabel"], size=8, color=GREY)
    axes.grid(color="#e5e7eb", linewidth=0.6)
    columns = max(1, panel["gridPos"]["w"] // 2)
    axes.figure.legend(loc="lower left", ncols=columns, fontsize=8, frameon=False)


def paint_table(axes, panel, series, _):
    blank(axes)
    (organize,) = [item["options"] for item in panel["transformations"] if item["id"] == "organize"]
    columns, override = organize["renameByName"], overrides(panel)
    line = 1 / (panel["gridPos"]["h"] - 1)
    # A column has the width that is set for it; the others share the rest.
    whole = panel["gridPos"]["w"] * COLUMN * DPI
    fixed = {title: override[title]["custom.width"] / whole for title in override}
    shared = (1 - sum(fixed.values())) / (len(columns) - len(fixed))
    x = 0
    for key, title in columns.items():
        width = fixed.get(title, shared)
        axes.text(x, 1 - 0.7 * line, title, size=9, color=GREY)
        for index, (_, labels, (_, values)) in enumerate(series):
            y = 1 - (index + 1.7) * line
            if y < 0:
                break
            if key == "Value":
                gauge, full, bar = override[title], width * 0.85, {"left": x, "align": "edge"}
                axes.barh(y, full, line / 2, color="#eef0f3", **bar)
                color = reached(gauge["thresholds"], values[-1])
                axes.barh(y, full * values[-1] / gauge["max"], line / 2, color=color, **bar)
                axes.text(x + width * 0.9, y, f"{values[-1]:g}", size=9, weight="bold")
            else:
                axes.text(x, y, labels.get(key, ""), size=9)
        x += width


def ticks(start, end):
    return [start + (end - start) * part / 4 for part in range(1, 4)]


def days(times):
    """matplotlib counts in days."""
    return [at / 86400 for at in times]


# Who paints a panel, and the inches that it keeps free: left, above, right, below.
PAINT = {
    "stat": (paint_stat, 0.2, 0.4, 0.2, 0.1),
    "timeseries": (paint_timeseries, 0.8, 0.45, 0.2, 0.75),
    "table": (paint_table, 0.15, 0.4, 0.15, 0.1),
}
