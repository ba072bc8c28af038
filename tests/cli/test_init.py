"""The file to start from."""

import os
import re
from pathlib import Path

import orjson
import pytest

from proxy.core import config, yaml

from .running import said, weir

SECRETS = {"OPENAI_API_KEY": "sk-upstream-0123", "ALICE_KEY": "alices-long-key"}


def uncommented(text: str) -> str:
    """With everything that is set out to be taken in taken in."""
    return re.sub(r"^#(?=[a-z]|  )", "", text, flags=re.MULTILINE)


def test_what_it_writes_runs_as_it_is(clean: Path) -> None:
    told = said(weir("init"))
    assert "wrote weir.yaml" in told
    assert "wrote weir.schema.json" in told
    checked = said(weir("check"))
    assert "listen      127.0.0.1:3006" in checked
    assert "demo" in checked


def test_all_that_is_commented_out_is_right_too(clean: Path) -> None:
    said(weir("init"))
    file = clean / "weir.yaml"
    text = uncommented(file.read_text())
    (clean / "prices.yaml").write_text("")
    file.write_text(text)
    settings = config.load(file, SECRETS)
    assert [plugin.use for plugin in settings.plugins or ()] == ["auth", "precost", "limiter", "annotate"]
    assert settings.upstreams[0].api_key is not None
    # What it shows beside a setting that has a default is that default.
    plain = config.Settings()
    for name in ("listen", "management", "drain", "log"):
        assert getattr(settings, name) == getattr(plain, name)
    assert settings.upstreams[0].timeouts == config.Timeouts()


def test_every_setting_it_names_is_set_out_to_be_taken_in(clean: Path) -> None:
    said(weir("init"))
    text = uncommented((clean / "weir.yaml").read_text())
    for line in text.splitlines():
        assert not re.match(r"#\s*[a-z_]+:( |$)", line) or "yaml-language-server" in line, line


def test_its_first_line_points_at_the_schema_beside_it(clean: Path) -> None:
    said(weir("init"))
    first = (clean / "weir.yaml").read_text().splitlines()[0]
    match = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert match is not None
    schema = orjson.loads((clean / match[1]).read_bytes())
    node, _ = yaml.parse(uncommented((clean / "weir.yaml").read_text()))
    assert node is not None
    assert yaml.plain(node).keys() <= schema["properties"].keys()


def test_a_file_that_is_there_stays(clean: Path) -> None:
    (clean / "weir.yaml").write_text("listen: 127.0.0.1:4000\n")
    told = said(weir("init"), 1)
    assert told == "weir: weir.yaml is there already; --force writes over it\n"
    assert (clean / "weir.yaml").read_text() == "listen: 127.0.0.1:4000\n"
    assert not (clean / "weir.schema.json").exists()


def test_a_link_that_leads_nowhere_stays(clean: Path) -> None:
    os.symlink("elsewhere.yaml", clean / "weir.yaml")
    said(weir("init"), 1)
    assert not (clean / "elsewhere.yaml").exists()


def test_a_schema_that_is_there_stays(clean: Path) -> None:
    (clean / "weir.schema.json").write_text("{}")
    assert "kept weir.schema.json" in said(weir("init"))
    assert (clean / "weir.schema.json").read_text() == "{}"
    assert (clean / "weir.yaml").exists()


def test_force_writes_over_both(clean: Path) -> None:
    for name in ("weir.yaml", "weir.schema.json"):
        (clean / name).write_text("old")
    said(weir("init", "--force"))
    assert "listen:" in (clean / "weir.yaml").read_text()
    assert "properties" in orjson.loads((clean / "weir.schema.json").read_bytes())


def test_another_name_and_folder(clean: Path) -> None:
    (clean / "etc").mkdir()
    told = said(weir("init", "etc/proxy.yaml"))
    assert "wrote etc/proxy.yaml" in told
    assert (clean / "etc" / "weir.schema.json").exists()
    assert not (clean / "weir.yaml").exists()


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_folder_that_is_not_there(force: tuple[str, ...]) -> None:
    assert said(weir("init", "no/such/weir.yaml", *force), 1) == (
        "weir: no/such/weir.yaml cannot be written: No such file or directory\n"
    )
