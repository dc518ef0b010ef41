"""How a running emulator is steered over HTTP.

GET, PUT  /emulator/script         the script; PUT changes what it names
POST      /emulator/faults         one more fault; answers its id
GET       /emulator/faults         all of them, with how often each hit
DELETE    /emulator/faults/{id}
POST      /emulator/reset          the first script again, everything else forgotten
GET       /emulator/record         what it was asked (?match=text, ?totals=1)
DELETE    /emulator/record
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.together.script import BadScript

if TYPE_CHECKING:
    from local.together.emulator import Emulator


def routes(emulator: Emulator) -> list[web.RouteDef]:
    control = _Control(emulator)
    return [
        web.get("/emulator/script", control.get_script),
        web.put("/emulator/script", control.put_script),
        web.get("/emulator/faults", control.get_faults),
        web.post("/emulator/faults", control.post_fault),
        web.delete("/emulator/faults/{id:[0-9]+}", control.delete_fault),
        web.post("/emulator/reset", control.post_reset),
        web.get("/emulator/record", control.get_record),
        web.delete("/emulator/record", control.delete_record),
    ]


def json_object(body: bytes) -> dict[str, Any]:
    """Raises: BadScript."""
    try:
        data = json.loads(body)
    except ValueError as exc:
        raise BadScript(f"not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise BadScript("must be an object")
    return data


class _Control:
    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    async def get_script(self, _request: web.Request) -> web.Response:
        faults = self._emulator.faults.as_json()
        return web.json_response({**self._emulator.script.as_json(), "faults": faults})

    async def put_script(self, request: web.Request) -> web.Response:
        try:
            self._emulator.change(json_object(await request.read()))
        except BadScript as exc:
            return web.json_response({"error": str(exc)}, status=400)
        return await self.get_script(request)

    async def get_faults(self, _request: web.Request) -> web.Response:
        return web.json_response(self._emulator.faults.as_json())

    async def post_fault(self, request: web.Request) -> web.Response:
        try:
            number = self._emulator.add_fault(json_object(await request.read()))
        except BadScript as exc:
            return web.json_response({"error": str(exc)}, status=400)
        return web.json_response({"id": number}, status=201)

    async def delete_fault(self, request: web.Request) -> web.Response:
        found = self._emulator.faults.remove(int(request.match_info["id"]))
        return web.json_response({"removed": found}, status=200 if found else 404)

    async def post_reset(self, request: web.Request) -> web.Response:
        self._emulator.reset()
        return await self.get_script(request)

    async def get_record(self, request: web.Request) -> web.Response:
        record = self._emulator.record
        if request.query.get("totals"):
            return web.json_response(asdict(record.totals))
        return web.json_response(record.as_json(request.query.get("match", "")))

    async def delete_record(self, _request: web.Request) -> web.Response:
        self._emulator.record.clear()
        return web.json_response({})
