"""Settings come from the environment, are checked all at once, and are frozen."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from tollhouse import config
from tollhouse.config import ConfigError

LONG_ENOUGH = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("TOLLHOUSE_") or name.endswith(("_API_KEY", "_BASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TOLLHOUSE_DATA_DIR", str(tmp_path / "data"))


def test_without_any_setting_it_is_test_mode_on_the_local_machine() -> None:
    settings = config.read()
    assert (settings.mode, settings.host, settings.port, settings.workers) == ("test", "127.0.0.1", 8400, 1)
    assert settings.database_url is None
    assert settings.operator_key is None
    assert settings.body_max_bytes == 8 * 1024 * 1024


def test_every_problem_is_named_at_once_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TOLLHOUSE_MODE": "live",
        "TOLLHOUSE_PORT": "eighty",
        "TOLLHOUSE_WORKERS": "0",
        "TOLLHOUSE_DATABASE_URL": "mysql://somewhere",
        "TOLLHOUSE_OPERATOR_KEY": "th_test_x",
        "OPENAI_BASE_URL": "file:///etc/passwd",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        config.read()
    text = str(caught.value)
    assert len(caught.value.problems) == 6
    assert "TOLLHOUSE_PORT is 'eighty' and must be a number from 0 to 65535." in text
    assert "TOLLHOUSE_WORKERS is '0'" in text
    assert "postgresql://" in text
    assert "TOLLHOUSE_SECRET_KEY is required in live mode" in text
    assert "tollhouse key create" in text
    assert "OPENAI_BASE_URL" in text


def test_reading_touches_no_file_and_an_empty_variable_is_an_absent_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOLLHOUSE_DATABASE_URL", "")
    monkeypatch.setenv("TOLLHOUSE_SECRET_KEY", "")
    assert config.read().database_url is None
    assert list(tmp_path.iterdir()) == []


def test_a_env_file_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TOLLHOUSE_PORT=1234\n")
    monkeypatch.chdir(tmp_path)
    assert config.read().port == 8400


def test_in_test_mode_a_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    first = config.load().secret_key.get_secret_value()
    path = tmp_path / "data" / "secret-key"
    assert len(first) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert config.load().secret_key.get_secret_value() == first
    assert [entry.name for entry in path.parent.iterdir()] == ["secret-key"]


def test_a_damaged_secret_is_an_error_and_not_replaced(tmp_path: Path) -> None:
    config.load()
    (tmp_path / "data" / "secret-key").write_text("short")
    with pytest.raises(ConfigError, match="damaged"):
        config.load()


def test_a_given_secret_is_taken_and_no_file_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOLLHOUSE_SECRET_KEY", LONG_ENOUGH)
    assert config.load().secret_key.get_secret_value() == LONG_ENOUGH
    assert list(tmp_path.iterdir()) == []


def test_a_short_secret_is_refused_in_every_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLHOUSE_SECRET_KEY", LONG_ENOUGH[1:])
    with pytest.raises(ConfigError, match="has 31 characters and needs 32"):
        config.read()


def test_earlier_secrets_are_parted_by_commas_and_open_what_the_current_one_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert config.read().keyring().previous == ()
    older, oldest = LONG_ENOUGH.replace("0", "1"), LONG_ENOUGH.replace("0", "2")
    monkeypatch.setenv("TOLLHOUSE_SECRET_KEY", LONG_ENOUGH)
    monkeypatch.setenv("TOLLHOUSE_PREVIOUS_SECRET_KEYS", f" {older}, {oldest} ,")
    keyring = config.read().keyring()
    assert keyring.current == LONG_ENOUGH.encode()
    assert keyring.previous == (older.encode(), oldest.encode())


def test_an_earlier_secret_that_is_too_short_to_be_one_is_refused_by_its_number_and_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOLLHOUSE_PREVIOUS_SECRET_KEYS", f"{LONG_ENOUGH},half-a-secret")
    with pytest.raises(ConfigError, match="TOLLHOUSE_PREVIOUS_SECRET_KEYS holds, as number 2, one that is") as caught:
        config.read()
    assert "half" not in str(caught.value)
    assert LONG_ENOUGH not in str(caught.value)


def test_private_addresses_of_providers_are_allowed_only_when_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.read().allow_private_providers is False
    monkeypatch.setenv("TOLLHOUSE_ALLOW_PRIVATE_PROVIDERS", "true")
    assert config.read().allow_private_providers is True
    monkeypatch.setenv("TOLLHOUSE_ALLOW_PRIVATE_PROVIDERS", "perhaps")
    with pytest.raises(ConfigError, match="TOLLHOUSE_ALLOW_PRIVATE_PROVIDERS is 'perhaps' and must be true or false"):
        config.read()


def test_a_data_directory_that_is_a_file_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TOLLHOUSE_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="TOLLHOUSE_DATA_DIR"):
        config.load()


def test_secrets_do_not_show_when_the_configuration_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLHOUSE_SECRET_KEY", LONG_ENOUGH)
    monkeypatch.setenv("TOLLHOUSE_OPERATOR_KEY", "th_test_operator")
    monkeypatch.setenv("TOLLHOUSE_PREVIOUS_SECRET_KEYS", LONG_ENOUGH.upper())
    monkeypatch.setenv("TOLLHOUSE_DATABASE_URL", "postgresql://me:password@host/db")
    text = repr(config.read()) + str(config.read())
    for secret in (LONG_ENOUGH, LONG_ENOUGH.upper(), "th_test_operator", "password"):
        assert secret not in text


def test_a_configuration_can_not_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        config.read().port = 1


def test_a_relative_data_directory_does_not_move_with_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLHOUSE_DATA_DIR", "here")
    settings = config.read()
    monkeypatch.chdir("/")
    assert settings.data_dir == tmp_path / "here"


def test_vendors_are_picked_up_by_key_or_by_address() -> None:
    found = config.read().vendor_connections(
        {
            "OPENAI_API_KEY": " sk-1 ",
            "TOGETHER_API_KEY": "",
            "ANTHROPIC_BASE_URL": "https://proxy.example/anthropic/",
            "OLLAMA_BASE_URL": "http://127.0.0.1:11434/v1",
            "OLLAMA_API_KEY": "not a thing",
        }
    )
    seen = [(one.provider_id, one.base_url, one.key and one.key.get_secret_value()) for one in found]
    assert seen == [
        ("openai", None, "sk-1"),
        ("anthropic", "https://proxy.example/anthropic", None),
        ("ollama", "http://127.0.0.1:11434/v1", None),
    ]


@pytest.mark.parametrize(
    "address", ["localhost:11434", "https://", "https://u:p@host", "https://host/?a", "http://h:x"]
)
def test_a_vendors_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="VLLM_BASE_URL"):
        config.read().vendor_connections({"VLLM_BASE_URL": address})


def test_an_installation_may_have_a_name_a_hue_and_a_mark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mark = tmp_path / "mark.svg"
    mark.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    for name, value in (("NAME", " Mill & Sons "), ("HUE", "320"), ("MARK", str(mark))):
        monkeypatch.setenv(f"TOLLHOUSE_BRAND_{name}", value)
    found = config.load()
    assert (found.brand_name, found.brand_hue, found.mark()) == ("Mill & Sons", 320, mark.read_bytes())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("NAME", "x" * 41, "TOLLHOUSE_BRAND_NAME is 'x"),
        ("NAME", "Mill\nBcc: all", "TOLLHOUSE_BRAND_NAME must be a name in one line, such as Mill AI."),
        ("NAME", "  ", "TOLLHOUSE_BRAND_NAME must be a name in one line, such as Mill AI."),
        ("HUE", "361", "TOLLHOUSE_BRAND_HUE is '361' and must be a number from 0 to 360."),
        ("HUE", "red", "TOLLHOUSE_BRAND_HUE is 'red' and must be a number from 0 to 360."),
        ("MARK", "/nowhere/mark.svg", "/nowhere/mark.svg can't be read (No such file or directory)."),
        ("MARK", __file__, "is not an SVG file"),
    ],
)
def test_a_brand_that_cannot_be_shown_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"TOLLHOUSE_BRAND_{name}", value)
    with pytest.raises(ConfigError) as refused:
        config.load()
    (problem,) = refused.value.problems
    assert said in problem
