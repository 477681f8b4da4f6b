"""Where a device is."""

from dataclasses import dataclass

from ...ir.errors import DataError


@dataclass(frozen=True)
class Address:
    """A device's server; with ``key`` TVM's tracker, which lends devices of that kind."""

    host: str
    port: int
    key: str = ""

    @staticmethod
    def parse(text: str, key: str = "") -> "Address":
        """``HOST:PORT``; ``DataError`` for anything else."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise DataError(f"device {text!r} is not HOST:PORT, for example localhost:9190")
        return Address(host.strip("[]"), int(port), key)

    def __str__(self) -> str:
        place = f"{self.host}:{self.port}"
        return f"{self.key} of tracker {place}" if self.key else place
