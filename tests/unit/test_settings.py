"""Reading the settings from the environment."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from scrapper.errors import SettingsError
from scrapper.setting_types import OWN_MIDDLEWARES
from scrapper.settings import PRIVATE_NETWORKS, load_settings, near_misses


@pytest.fixture(autouse=True)
def writable_media_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDIA_ROOT", str(tmp_path))


def test_an_empty_environment_yields_the_documented_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = load_settings()
    assert settings.model_dump(
        exclude={"api_key", "media_root", "redis_url", "webhook_secret"}
    ) == {
        "api_key_file": None,
        "host": "0.0.0.0",
        "port": 5633,
        "unix_socket": None,
        "unix_socket_mode": 0o660,
        "tls_cert_file": None,
        "tls_key_file": None,
        "auth_proxy_header": "",
        "auth_proxies": (),
        "download_name": "{shortcode}",
        "max_url_length": 512,
        "max_json_body_bytes": 4096,
        "rate_limit_max_requests": 30,
        "rate_limit_window_seconds": 60,
        "rate_limit_max_ips": 10000,
        "allowed_hosts": (),
        "base_path": "",
        "api_keys_file": None,
        "trusted_proxies": (),
        "trust_proxy": False,
        "max_media_age_days": 7,
        "media_cleanup_interval_seconds": 3600,
        "scrape_concurrency": 8,
        "download_concurrency": None,
        "scrape_queue_limit": 256,
        "scrape_timeout_seconds": 55,
        "video_quality": "compatible",
        "max_media_mb": 1024,
        "min_free_disk_mb": 100,
        "max_connections": 4096,
        "client_timeout_seconds": 20,
        "max_jobs": 100,
        "max_job_age_days": 7,
        "worker_grace_seconds": None,
        "worker_port": None,
        "job_patience_seconds": 21_600,
        "webhook_hosts": (),
        "instagram_cookies_file": None,
        "instagram_session_file": None,
        "instagram_username": "",
        "instagram_login_use": "needed",
        "instagram_doc_id": "27130156389949648",
        "instagram_max_queries": 200,
        "instagram_window_seconds": 660,
        "instagram_cooldown_seconds": 300,
        "log_level": "info",
        "log_format": "json",
        "otel_traces_exporter": "none",
        "middlewares": OWN_MIDDLEWARES,
        "middlewares_unchecked": False,
        "extra_middlewares": (),
        "plugins": (),
        "plugin_timeout_seconds": 900,
    }
    assert settings.key == settings.redis_url.get_secret_value() == ""


def test_an_empty_setting_keeps_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "")
    assert load_settings().port == 5633


def test_a_relative_media_root_becomes_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDIA_ROOT", "data/instaloader")
    assert load_settings().media_root == tmp_path / "data/instaloader"


def test_the_key_can_be_read_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("s3cret\n")
    monkeypatch.setenv("API_KEY_FILE", str(file))
    assert load_settings().key == "s3cret"


def test_trust_proxy_adds_private_networks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "203.0.113.7, 2001:db8::/32")
    expected = ip_network("203.0.113.7/32"), ip_network("2001:db8::/32")
    assert load_settings().proxies == expected
    monkeypatch.setenv("TRUST_PROXY", "1")
    assert load_settings().proxies == (*expected, *PRIVATE_NETWORKS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY", " blank"),
        ("API_KEY", "line\nbreak"),
        ("API_KEY_FILE", "/nowhere/key"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("MEDIA_ROOT", "/dev/null/media"),
        ("MEDIA_ROOT", "~/media"),
        ("MEDIA_ROOT", "/tmp/\udcff"),
        ("DOWNLOAD_NAME", "{caption}"),
        ("DOWNLOAD_NAME", "{owner!r}"),
        ("DOWNLOAD_NAME", "{date:>9999}"),
        ("DOWNLOAD_NAME", "{shortcode.__class__}"),
        ("DOWNLOAD_NAME", "{"),
        ("DOWNLOAD_NAME", "{}"),
        ("DOWNLOAD_NAME", "x" * 201),
        ("MAX_URL_LENGTH", "0"),
        ("MAX_JSON_BODY_BYTES", "-1"),
        ("RATE_LIMIT_MAX_REQUESTS", "-1"),
        ("RATE_LIMIT_WINDOW_SECONDS", "0"),
        ("RATE_LIMIT_WINDOW_SECONDS", "1e30"),
        ("RATE_LIMIT_MAX_IPS", "0"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUST_PROXY", "perhaps"),
        ("AUTH_PROXIES", "10.0.0.0/8"),
        ("AUTH_PROXIES", "10.0.0.1/31"),
        ("AUTH_PROXIES", "0.0.0.0"),
        ("AUTH_PROXIES", "2001:db8::/64"),
        ("AUTH_PROXIES", "proxy.lan"),
        ("AUTH_PROXIES", "unix"),
        ("AUTH_PROXIES", "/run/proxy.sock"),
        ("AUTH_PROXY_HEADER", "Remote-User"),
        ("AUTH_PROXY_HEADER", "Remote User"),
        ("AUTH_PROXY_HEADER", "X-Forwarded-For"),
        ("MAX_MEDIA_AGE_DAYS", "-1"),
        ("MAX_MEDIA_AGE_DAYS", "nan"),
        ("MEDIA_CLEANUP_INTERVAL_SECONDS", "0"),
        ("SCRAPE_CONCURRENCY", "0"),
        ("SCRAPE_QUEUE_LIMIT", "-1"),
        ("SCRAPE_TIMEOUT_SECONDS", "inf"),
        ("INSTAGRAM_SESSION_FILE", "/nowhere/session"),
        ("INSTAGRAM_USERNAME", "someone"),
        ("INSTAGRAM_MAX_QUERIES", "many"),
        ("INSTAGRAM_WINDOW_SECONDS", "0"),
        ("INSTAGRAM_COOLDOWN_SECONDS", "-1"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("HTTPS_PROXY", "proxy.example"),
        ("https_proxy", "proxy.example:3128"),
        ("HTTPS_PROXY", "ftp://proxy.example"),
        ("HTTPS_PROXY", "http://"),
        ("HTTPS_PROXY", "http://proxy.example:many"),
        ("HTTPS_PROXY", "http://proxy.example:99999"),
        ("HTTPS_PROXY", "http://proxy example:3128"),
        ("ALL_PROXY", "http://[::1"),
        ("EXTRA_MIDDLEWARES", "nowhere"),
        ("EXTRA_MIDDLEWARES", "nowhere:factory"),
        ("EXTRA_MIDDLEWARES", "os:sep"),
    ],
)
def test_an_invalid_value_is_reported_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"^{name}: ."):
        load_settings()


def test_proxies_without_their_header_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_PROXIES", "192.0.2.1")
    with pytest.raises(SettingsError, match="AUTH_PROXY_HEADER: set both"):
        load_settings()


def test_all_errors_are_reported_together_without_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "http")
    monkeypatch.setenv("API_KEY", "s3cret\t")
    monkeypatch.setenv("INSTAGRAM_USERNAME", "someone")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    lines = str(refused.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["API_KEY", "PORT", "INSTAGRAM_USERNAME"]
    assert "s3cret" not in str(refused.value)


def test_a_key_and_a_key_file_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("one")
    monkeypatch.setenv("API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("API_KEY", "other")
    with pytest.raises(SettingsError, match=r"^API_KEY_FILE: .* one of the two"):
        load_settings()


def test_an_empty_key_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    monkeypatch.setenv("API_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(SettingsError, match="is empty"):
        load_settings()


def test_the_settings_do_not_show_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "s3cret")
    assert "s3cret" not in repr(load_settings())


@pytest.mark.parametrize(
    "url", ["redis://localhost", "rediss://user:word@host:1/2", "unix:///run/redis.sock"]
)
def test_every_form_of_redis_url_is_accepted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert load_settings().redis_url.get_secret_value() == url


@pytest.mark.parametrize(
    "url", ["http://:s3cret@localhost", "redis://:s3cret#x@localhost:6379", "redis://:a/s3cret@b"]
)
def test_an_invalid_redis_url_is_refused_without_quoting_it(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(SettingsError, match="REDIS_URL") as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://:pass%2Fword@host", "redis://host?password=pass%2Fword"])
def test_the_redis_password_is_a_secret_in_either_form(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert "pass/word" in load_settings().secrets


@pytest.mark.parametrize("image", [True, False])
def test_media_root_defaults_to_data_or_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image: bool
) -> None:
    monkeypatch.delenv("MEDIA_ROOT")
    monkeypatch.chdir(tmp_path)
    data, is_dir = Path("/data"), Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: image if path == data else is_dir(path))
    root = data if image else tmp_path / "data"
    monkeypatch.setattr("scrapper.setting_types.os.access", lambda *_: True)
    assert load_settings().media_root == root / "instaloader"


@pytest.mark.parametrize(
    "url",
    [
        "http://proxy:3128",
        "https://u:p%40@[2001:db8::1]:1",
        "socks5h://127.0.0.1:9050",
        "http://p/",
    ],
)
def test_every_form_of_proxy_is_accepted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    load_settings()
    # ALL_PROXY is used only without HTTPS_PROXY.
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1080/")
    load_settings()


def test_an_invalid_proxy_is_reported_without_quoting_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "user:s3cret@proxy")
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    names = [line.partition(":")[0] for line in str(refused.value).splitlines()]
    assert names == ["PORT", "HTTPS_PROXY"]
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("API_KEYS", "API_KEY"),
        ("MAX_MEDIA_AGE_DAY", "MAX_MEDIA_AGE_DAYS"),
        ("allowed_host", "ALLOWED_HOSTS"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("REDIS_URI", "REDIS_URL"),
        ("SCRAPE_TIMEOUT", "SCRAPE_TIMEOUT_SECONDS"),
        ("COOKIES_FILE", "INSTAGRAM_COOKIES_FILE"),
        ("HTTPS_PROXIES", "HTTPS_PROXY"),
    ],
)
def test_misspelled_settings_are_found(name: str, setting: str) -> None:
    assert list(near_misses(["PATH", name])) == [(name, setting)]


def test_other_names_are_not_near_misses() -> None:
    usual = ["PATH", "HOSTNAME", "GPG_KEY", "PYTHON_VERSION", "REDIS_PORT", "REDIS_SERVICE_HOST"]
    proxies = ["HTTPS_PROXY", "https_proxy", "http_proxy", "no_proxy", "REQUESTS_CA_BUNDLE"]
    others = ["OTEL_TRACES_SAMPLER", "SSL_CERT_FILE", "S3_BUCKET", "PUID", "DATA_FOLDER", "port"]
    assert list(near_misses([*usual, *proxies, *others])) == []


def test_a_removed_current_folder_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("MEDIA_ROOT", "posts")
    with pytest.raises(SettingsError, match=r"^MEDIA_ROOT: the current folder was removed"):
        load_settings()


def test_best_quality_without_ffmpeg_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("VIDEO_QUALITY", "best")
    with pytest.raises(SettingsError, match=r"VIDEO_QUALITY: .*ffmpeg.* install ffmpeg"):
        load_settings()
    monkeypatch.setenv("VIDEO_QUALITY", "compatible")
    assert load_settings().video_quality == "compatible"
