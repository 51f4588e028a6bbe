"""Rows in a list that can be written to a file."""

from __future__ import annotations

from pathlib import Path

from vertebra.errors import InvalidInputError
from vertebra.measurements.measurement import Measurement


class Rows(list[Measurement]):
    """Rows of the table."""

    def write(self, path: str | Path) -> None:
        """Write the rows to a .csv, .json or .parquet file that `cite` takes in again, on any machine."""
        from vertebra.measurements import exchange

        file = Path(path)
        writers = {
            ".csv": exchange.write_csv, ".json": exchange.write_json, ".parquet": exchange.write_parquet,
        }  # fmt: skip
        if file.suffix not in writers:
            raise InvalidInputError(f'Can\'t tell the format of "{file}".', f"formats: {', '.join(writers)}")
        writers[file.suffix](self, file)
