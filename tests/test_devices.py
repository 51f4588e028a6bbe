"""A phone's figures come back as docs/devices.md says, and the files that it names are the Bundles'."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import vertebra
from vertebra import cli
from vertebra.bundles.manifest import NETWORKS
from vertebra.measurements import Table

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "devices.md").read_text(encoding="utf-8")


def test_figures_of_a_phone_come_into_the_table_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    [form] = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)
    [command] = re.findall(r"```\nvertebra (cite .*)\n```", PAGE)
    Path("phone.csv").write_text(form.replace("…", "10.5", 1).replace("…", "9"), encoding="utf-8")
    done = CliRunner().invoke(cli.cli, [*shlex.split(command), "--table", "table.sqlite"])
    assert done.exit_code == 0, done.stderr
    rows = {row.engine: row for row in vertebra.table(path=Table("table.sqlite"))}
    assert {engine: row.value for engine, row in rows.items()} == pytest.approx(
        {"ncnn": 0.0105, "mnn": 0.009}
    )
    for row in rows.values():
        assert row.metric == "latency"
        assert (row.model, row.system, row.precision, row.threads) == (
            "squeezenet1_1",
            "my-phone",
            "float32",
            4,
        )
        assert (row.batch_size, row.input_size, row.device, row.origin) == (1, 224, "cpu", "published")


@pytest.mark.parametrize("engine", ["ncnn", "mnn", "litert", "executorch"])
def test_the_file_that_goes_to_the_device_is_the_bundles_own(engine: str) -> None:
    [line] = re.findall(rf"\| `{engine}` \| `(.*?)`", PAGE)
    assert line == NETWORKS[engine]
