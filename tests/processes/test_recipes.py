"""Runs the recipes exactly as the docs show them, except for server addresses."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
import requests
import yaml
from jinja2.sandbox import SandboxedEnvironment
from standardwebhooks import Webhook

from tests.instagram import StandIn
from tests.process import Service, wait_for
from tests.programs import output_of, program

DOCS = Path(__file__).resolve().parents[2] / "docs"
RECIPES = (DOCS / "recipes.md").read_text()
README = (DOCS.parent / "README.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", RECIPES, re.MULTILINE | re.DOTALL))
_BLOCK = r"^```{}\n(.*?)\n```"
COMMANDS = re.findall(_BLOCK.format("sh"), RECIPES, re.MULTILINE | re.DOTALL)
LINK = "https://www.instagram.com/reel/reel-demo/"
CAROUSEL = "https://www.instagram.com/p/carousel-demo/"
SECRET = "whsec_aW5zdGFncmFtLXNjcmFwcGVyIGRlbW8h"
# The key that the recipes use.
KEY = "YOUR-KEY"

Answer = Callable[["Received"], object]


@dataclass
class Received:
    """A request to another tool's server.

    ``form`` has the parts of the body, with files as bytes, and ``names`` their file names.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    form: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("application/x-www-form-urlencoded"):
            self.form = {name: text for name, [text] in parse_qs(self.body.decode()).items()}
        elif kind.startswith("multipart/form-data"):
            head = f"Content-Type: {kind}\r\n\r\n".encode()
            for part in message_from_bytes(head + self.body, policy=policy.HTTP).iter_parts():
                name = str(part.get_param("name", header="content-disposition"))
                self.names[name] = part.get_filename()
                content = part.get_payload(decode=True)
                assert isinstance(content, bytes)
                self.form[name] = content if part.get_filename() else content.decode()
        elif self.body:
            self.form = json.loads(self.body)


class Server:
    """Another tool's server on loopback.

    It sends the first of *answers* with a key that the request's method and path begin with.
    """

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.received: list[Received] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                got = Received(self.command, self.path, dict(self.headers), body)
                outer.received.append(got)
                what = f"{self.command} {self.path}"
                given = next(answers[begin] for begin in answers if what.startswith(begin))
                answer = json.dumps(given(got)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_PATCH = answer  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Server":
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def got(self, begin: str) -> list[Received]:
        return [one for one in self.received if f"{one.method} {one.path}".startswith(begin)]


@pytest.fixture
def service(instagram: StandIn, media_root: Path) -> Service:
    return Service(media_root, instagram.environment)


@pytest.fixture
def keyed(instagram: StandIn, media_root: Path) -> Iterator[Service]:
    more = {"API_KEY": KEY, "WEBHOOK_HOSTS": "127.0.0.0/8", "WEBHOOK_SECRET": SECRET}
    with Service(media_root, {**instagram.environment, **more}) as service:
        service.headers["X-API-Key"] = KEY
        yield service


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved = tmp_path / "saved"
    saved.mkdir()
    return saved


def block(section: str, language: str) -> str:
    [text] = re.findall(_BLOCK.format(language), SECTIONS[section], re.MULTILINE | re.DOTALL)
    return str(text)


def to_test_servers(text: str, service: Service, others: Mapping[str, str] | None = None) -> str:
    """Replace the server addresses in a recipe's *text* with those of the test servers."""
    text = re.sub(r"(http://)?localhost:5633|http://scrapper:5633", service.url, text)
    for theirs, ours in (others or {}).items():
        assert theirs in text
        text = text.replace(theirs, ours)
    return text


def run(command: str, service: Service, folder: Path) -> str:
    program(command.split(maxsplit=1)[0])
    return output_of(["/bin/sh", "-c", to_test_servers(command, service)], folder=folder)


def python(
    section: str, arguments: Sequence[str], service: Service, others: dict[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    """Start the program from the recipe in *section*."""
    file = folder / "program.py"
    file.write_text(to_test_servers(block(section, "python"), service, others))
    environment = {"PATH": os.environ["PATH"], "NO_PROXY": "*"}
    return subprocess.Popen([sys.executable, str(file), *arguments], env=environment)


@pytest.mark.parametrize("command", [it for it in COMMANDS if "/download" in it])
def test_a_download_saves_the_post_under_its_own_name(
    instagram: StandIn, service: Service, folder: Path, command: str
) -> None:
    with service:
        run(command, service, folder)
    [saved] = folder.iterdir()
    if "archive=zip" in command:
        assert saved.name == "carousel-demo.zip"
    else:
        assert saved.name == "reel-demo.mp4"
        assert [saved.read_bytes()] == instagram.bytes_of("reel-demo")


def test_the_requests_in_the_readme_return_what_it_shows(
    instagram: StandIn, service: Service, folder: Path
) -> None:
    blocks = re.findall(_BLOCK.format("sh"), README, re.MULTILINE | re.DOTALL)
    [scrape, download] = [block for block in blocks if "curl" in block]
    [shown] = re.findall(_BLOCK.format("json"), README, re.MULTILINE | re.DOTALL)
    with service:
        # The output of curl begins with a progress meter.
        printed = run(scrape, service, folder)
        response, example = json.loads(printed[printed.index('{"') :]), json.loads(shown)
        run(download, service, folder)
    for was, is_shown in ((response, example), (response["media"][0], example["media"][0])):
        assert set(is_shown) <= set(was)
        for name in ("shortcode", "description", "original_url", "size", "width", "duration"):
            assert is_shown.get(name) == was.get(name)
    saved = {path.name: path.read_bytes() for path in folder.iterdir()}
    files = [*instagram.bytes_of("reel-demo"), *instagram.bytes_of("photo-demo")]
    assert saved == dict(zip(("reel-demo.mp4", "photo-demo.jpg"), files, strict=True))


def test_a_file_of_links_becomes_a_job(service: Service, tmp_path: Path) -> None:
    links = [f"https://www.instagram.com/reel/reel-{number}/" for number in range(3)]
    (tmp_path / "links.txt").write_text("\n".join(links) + "\n")
    with service:
        job = json.loads(run(block("Many links", "sh"), service, tmp_path))
    assert [post["url"] for post in job["posts"]] == links


def test_the_bookmarklet_opens_the_page_with_the_link(keyed: Service) -> None:
    [code] = re.findall(r"^```\njavascript:(.*)\n```", SECTIONS["A bookmarklet"], re.MULTILINE)
    browser = f"const location = {{href: {json.dumps(LINK)}}}, window = {{open: console.log}};"
    run_by = [
        program("node", packages="nodejs"),
        "--eval",
        browser + to_test_servers(code, keyed),
    ]
    address = output_of(run_by).strip()
    assert address == f"{keyed.url}/?url={quote(LINK, safe='')}"
    page = requests.get(address, timeout=60)
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


def test_the_shortcut_gets_the_file_of_a_shared_link(instagram: StandIn, keyed: Service) -> None:
    [address] = re.findall(r"`(http:\S+\?url=)`", SECTIONS["iOS"])
    encoded = quote(f"{LINK}?igsh=MTI%3D", safe="")
    headers = {"X-API-Key": KEY}
    answer = requests.get(to_test_servers(address, keyed) + encoded, headers=headers, timeout=60)
    assert [answer.content] == instagram.bytes_of("reel-demo")


def run_n8n(
    workflow: str, start: str, items: object, *, folder: Path, service: Service, n8n: str = ""
) -> None:
    others = {"http://n8n:5678": n8n} if n8n else {}
    copy = folder.with_name(workflow)
    copy.write_text(to_test_servers((DOCS / "n8n" / workflow).read_text(), service, others))
    script = Path(__file__).with_name("n8n.js")
    given = json.dumps(items)
    output_of([program("node", packages="nodejs"), script, copy, start, given, folder])


def saved_by_n8n(folder: Path, instagram: StandIn) -> None:
    saved = {path.name: path.read_bytes() for path in folder.iterdir()}
    names = [f"carousel-demo_{number}" for number in (1, 2, 3)]
    assert [Path(name).stem for name in sorted(saved)] == [*names, "reel-demo"]
    contents = [*instagram.bytes_of("carousel-demo"), *instagram.bytes_of("reel-demo")]
    assert [saved[name] for name in sorted(saved)] == contents


def test_n8n_polls_a_job_and_saves_its_files(
    instagram: StandIn, keyed: Service, folder: Path
) -> None:
    run_n8n("poll.json", "Start", [{"json": {}}], folder=folder, service=keyed)
    saved_by_n8n(folder, instagram)


def test_n8n_saves_the_files_when_the_webhook_arrives(
    instagram: StandIn, keyed: Service, folder: Path
) -> None:
    with Server({"POST /webhook/instagram": lambda _: {}}) as n8n:
        servers: dict[str, Any] = {"folder": folder, "service": keyed, "n8n": n8n.url}
        run_n8n("webhook.json", "Start", [{"json": {}}], **servers)
        wait_for(lambda: bool(n8n.received))
        [webhook] = n8n.received
        Webhook(SECRET).verify(webhook.body, dict(webhook.headers))
        assert list(folder.iterdir()) == []
        item = {"json": {"body": webhook.form, "headers": dict(webhook.headers)}}
        run_n8n("webhook.json", "Job ended", [item], **servers)
    saved_by_n8n(folder, instagram)


def test_home_assistant_saves_a_post_and_plays_it(keyed: Service, media_root: Path) -> None:
    configuration = yaml.safe_load(block("Home Assistant", "yaml"))
    templates = SandboxedEnvironment()
    templates.filters["to_json"] = json.dumps

    def rendered(template: str, **values: object) -> str:
        return templates.from_string(template).render(**values)

    command = configuration["rest_command"]["instagram_post"]
    response = requests.request(
        command["method"],
        to_test_servers(command["url"], keyed),
        headers={**command["headers"], "Content-Type": command["content_type"]},
        data=rendered(command["payload"], link=LINK),
        timeout=command["timeout"],
    )
    # This is the shape of Home Assistant's response_variable.
    post = {"status": response.status_code, "content": response.json()}
    assert post["content"]["kept"]
    call, notify, condition = configuration["script"]["save_instagram_post"]["sequence"]
    assert call["action"] == "rest_command.instagram_post"
    assert rendered(notify["data"]["message"], post=post) == "A caption for reel-demo"
    assert rendered(condition["if"], post=post) == "True"
    [play] = condition["then"]
    source = rendered(play["data"]["media_content_id"], post=post)
    [(name, mounted)] = configuration["homeassistant"]["media_dirs"].items()
    assert f":{mounted}:ro" in SECTIONS["Home Assistant"]
    path = source.removeprefix(f"media-source://media_source/{name}/")
    assert (media_root / path).is_file()
    assert rendered(play["data"]["media_content_type"], post=post) == "video"
    failed = {"status": 404, "content": {"error": "It is gone"}}
    assert rendered(notify["data"]["message"], post=failed) == "It is gone"


def test_the_telegram_bot_answers_with_the_files(
    instagram: StandIn, keyed: Service, folder: Path
) -> None:
    def message(number: int, person: int, text: str) -> dict[str, Any]:
        chat, sender = {"id": 7}, {"id": person}
        return {"update_id": number, "message": {"chat": chat, "from": sender, "text": text}}

    updates = [
        message(1, 12345678, f"Look: {CAROUSEL}"),
        message(2, 99, LINK),
        {"update_id": 3, "edited_message": {}},
        message(4, 12345678, "https://www.instagram.com/p/gone-1/"),
    ]
    ended = threading.Event()

    def get_updates(got: Received) -> object:
        new = [one for one in updates if one["update_id"] >= int(got.form["offset"])]
        if not new:
            ended.wait()
        return {"ok": True, "result": new}

    answers: dict[str, Answer] = {"POST /botYOUR-TOKEN/getUpdates": get_updates}
    answers["POST /botYOUR-TOKEN/send"] = lambda _: {"ok": True}
    with Server(answers) as telegram:
        others = {"https://api.telegram.org": telegram.url}
        with python("A Telegram bot", [], keyed, others, folder) as bot:
            wait_for(lambda: bool(telegram.got("POST /botYOUR-TOKEN/sendMessage")))
            bot.kill()
        ended.set()
    sent = telegram.got("POST /botYOUR-TOKEN/send")
    kinds = [(one.path.rpartition("/")[2], one.form["chat_id"]) for one in sent]
    files = ["sendPhoto", "sendVideo", "sendPhoto"]
    assert kinds == [(kind, "7") for kind in (*files, "sendMessage")]
    contents = [one.form.get("photo") or one.form.get("video") for one in sent[:-1]]
    assert contents == instagram.bytes_of("carousel-demo")
    assert {one.form["caption"] for one in sent[:-1]} == {"A caption for carousel-demo"}
    assert "does not exist" in sent[-1].form["text"]


def test_the_bot_has_about_thirty_lines() -> None:
    lines = [line for line in block("A Telegram bot", "python").splitlines() if line]
    assert len(lines) <= 32


@pytest.mark.parametrize(
    ("link", "kinds"), [(LINK, ["video"]), (CAROUSEL, ["userUploaded", "video", "userUploaded"])]
)
def test_karakeep_gets_the_bookmark_and_the_files(
    instagram: StandIn, keyed: Service, folder: Path, link: str, kinds: list[str]
) -> None:
    answers: dict[str, Answer] = {
        "POST /api/v1/bookmarks/b1/assets": lambda got: got.form,
        "POST /api/v1/bookmarks": lambda got: {"id": "b1", **got.form},
        "POST /api/v1/assets": lambda _: {"assetId": "a1"},
    }
    with Server(answers) as karakeep:
        others = {"http://localhost:3000": karakeep.url}
        with python("Karakeep", [link], keyed, others, folder) as done:
            assert done.wait() == 0
    assert {one.headers["Authorization"] for one in karakeep.received} == {
        "Bearer YOUR-KARAKEEP-KEY"
    }
    shortcode = link.split("/")[-2]
    bookmark = karakeep.received[0].form
    assert (bookmark["type"], bookmark["url"]) == ("link", link)
    assert bookmark["note"] == f"A caption for {shortcode}"
    uploads = karakeep.got("POST /api/v1/assets")
    assert [one.form["file"] for one in uploads] == instagram.bytes_of(shortcode)
    attached = [one.form for one in karakeep.got("POST /api/v1/bookmarks/")]
    assert attached == [{"id": "a1", "assetType": kind} for kind in kinds]


def test_immich_sees_only_complete_posts(
    instagram: StandIn, service: Service, media_root: Path, folder: Path
) -> None:
    with service:
        job = json.loads(run(block("Immich", "sh"), service, folder))
        wait_for(lambda: service.get(f"/jobs/{job['id']}").json()["state"] == "done")
        excluded = re.findall(r"`\*\*/([^`*]+)/\*\*`", SECTIONS["Immich"])
        paths = [path for path in media_root.rglob("*") if path.is_file()]
        seen = [path for path in paths if not set(path.parts) & set(excluded)]
        assert {path.parent.name for path in seen} == {"reel-demo", "carousel-demo"}
        # Immich recognizes pictures and videos by their suffixes.
        media = sorted(path for path in seen if path.suffix in (".jpg", ".mp4"))
        contents = [path.read_bytes() for path in media if path.stem.startswith("carousel")]
        assert contents[-3:] == instagram.bytes_of("carousel-demo")
        taken = service.get("/posts/reel-demo").json()["taken_at"]
        assert service.get("/posts/reel-demo").json()["kept"]
        assert {path.stat().st_mtime for path in media} == {1_768_478_400}
        assert taken == "2026-01-15T12:00:00Z"


@pytest.mark.parametrize(
    ("link", "pictures"),
    [(LINK, ["reel-demo.jpg"]), (CAROUSEL, ["carousel-demo_1.jpg", "carousel-demo_3.jpg"])],
)
def test_mealie_gets_the_caption_and_the_pictures(
    keyed: Service, media_root: Path, folder: Path, link: str, pictures: list[str]
) -> None:
    answers: dict[str, Answer] = {
        "POST /api/recipes/a-caption/assets": lambda _: {},
        "POST /api/recipes": lambda _: "a-caption",
        "PATCH /api/recipes/a-caption": lambda _: {},
        "PUT /api/recipes/a-caption/image": lambda _: {},
    }
    with Server(answers) as mealie:
        others = {"http://localhost:9925": mealie.url}
        with python("A recipe manager", [link], keyed, others, folder) as done:
            assert done.wait() == 0
    shortcode = link.split("/")[-2]
    made, changed, image, *assets = mealie.received
    assert made.form == {"name": f"A caption for {shortcode}"}
    assert changed.form["orgURL"] == link
    assert changed.form["description"] == f"A caption for {shortcode}"
    assert image.form["extension"] == "jpg"
    sent = [image.form["image"], *(one.form["file"] for one in assets)]
    assert sent == [(media_root / shortcode / name).read_bytes() for name in pictures]
