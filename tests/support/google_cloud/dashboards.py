"""Dashboards, which have the id that their creator gives.

https://cloud.google.com/monitoring/dashboards/api-dashboard
"""

import re
from itertools import combinations
from typing import Any

from tests.support.google_cloud import metrics
from tests.support.google_cloud.exchange import Document, Refusal, Request, Routes, last
from tests.support.google_cloud.logging import Logs

BASE = "monitoring.googleapis.com/v1/projects/*/dashboards"
ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class Dashboards:
    """Of one project."""

    def __init__(self, logs: Logs) -> None:
        self.found: dict[str, Document] = {}
        self._logs = logs

    def routes(self, routes: Routes) -> None:
        routes.add("GET", BASE, lambda *_: {"dashboards": list(self.found.values())})
        routes.add("POST", BASE, self._create)
        routes.add("GET", f"{BASE}/*", lambda request, project, name: self._find(name))
        routes.add("PATCH", f"{BASE}/*", self._replace)
        routes.add("DELETE", f"{BASE}/*", self._delete)

    def _find(self, name: str) -> Document:
        if name not in self.found:
            raise Refusal(404, f"There is no dashboard {name}.")
        return self.found[name]

    def _create(self, request: Request, project: str) -> Document:
        parent, _, name = request.document.get("name", "").rpartition("/")
        if parent != f"projects/{project}/dashboards" or not ID.fullmatch(name):
            raise Refusal(400, "The fake wants dashboards with a name of their creator's.")
        if name in self.found:
            raise Refusal(409, f"The dashboard {name} already exists.")
        return self._put(name, request.document)

    def _replace(self, request: Request, project: str, name: str) -> Document:
        present, given = self._find(name), request.document
        if last(given.get("name", "")) != name:
            raise Refusal(400, "The name in the document is another one.")
        if given.get("etag", present["etag"]) != present["etag"]:
            raise Refusal(409, "Somebody else has changed the dashboard.", "ABORTED")
        return self._put(name, given)

    def _put(self, name: str, given: Document) -> Document:
        self._check(given)
        number = int(self.found[name]["etag"]) + 1 if name in self.found else 1
        # Google names the project by its number.
        full = f"projects/123456789012/dashboards/{name}"
        self.found[name] = {**_without_defaults(given), "name": full, "etag": str(number)}
        return self.found[name]

    def _delete(self, request: Request, project: str, name: str) -> Document:
        self._find(name)
        del self.found[name]
        return {}

    def _check(self, dashboard: Document) -> None:
        layout = dashboard.get("mosaicLayout", {})
        if not dashboard.get("displayName") or not layout.get("tiles"):
            raise Refusal(400, "A dashboard needs a name and tiles.")
        _check_places(layout)
        for tile in layout["tiles"]:
            for data in tile["widget"].get("xyChart", {}).get("dataSets", []):
                self._check_query(data.get("timeSeriesQuery", {}))

    def _check_query(self, query: Document) -> None:
        if "prometheusQuery" in query:
            metrics.check_promql(query["prometheusQuery"])
            return
        asked = query.get("timeSeriesFilter", {})
        read = metrics.read(asked.get("filter", ""), self._logs.metrics)
        if not read.names_resource:
            raise Refusal(400, "The filter of a chart must name a resource.")
        metrics.check_aggregation(read.metric, asked.get("aggregation", {}))


def _without_defaults(value: Any) -> Any:
    """A document as Google gives it back: what is empty, or 0, is left out."""
    if isinstance(value, dict):
        return {name: _without_defaults(item) for name, item in value.items() if item}
    return [_without_defaults(item) for item in value] if isinstance(value, list) else value


def _check_places(layout: Document) -> None:
    """Raises Refusal where tiles lie over each other or beyond the grid."""
    areas = []
    for tile in layout["tiles"]:
        left, top = tile.get("xPos", 0), tile.get("yPos", 0)
        right, bottom = left + tile["width"], top + tile["height"]
        if right > layout.get("columns", 0):
            raise Refusal(400, "A tile lies outside the grid.")
        areas.append((left, top, right, bottom))
    for one, other in combinations(areas, 2):
        if one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]:
            raise Refusal(400, "Two tiles overlap.")
