"""What all who are measured share: the emulated provider and the object store."""

from __future__ import annotations

from bench.workload import chat, speech
from local.emulator_process import EmulatorProcess
from local.object_store import object_store, preferred_kind
from local.process import Started, start_all


class Surroundings(Started):
    """Each a process of its own, on this machine."""

    def __init__(self) -> None:
        self.emulator = EmulatorProcess({"chat": chat(), "speech": speech()})
        self.store = object_store(preferred_kind())

    async def start(self) -> None:
        await start_all([self.emulator, self.store])

    async def close(self) -> None:
        await self.emulator.close()
        await self.store.close()

    def environ(self) -> dict[str, str]:
        """For the services, but for NATS."""
        return {
            "TOGETHER_API_KEY": "bench",
            "TOGETHER_BASE_URL": self.emulator.base_url,
            "TTS_URL": self.emulator.tts_url,
            "MINIO_ENDPOINT": self.store.endpoint,
            "MINIO_ACCESS_KEY": self.store.access_key,
            "MINIO_SECRET_KEY": self.store.secret_key,
            "MINIO_BUCKET": "parley-audio",
            "MINIO_SECURE": "false",
        }
