"""A real server on loopback that answers as the Hugging Face Hub does, as far as pushing and pulling ask it."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from tests.support.loopback import QuietServer


@dataclass
class Hub:
    """One repository: commits in order, branches and tags, and every request that came."""

    url: str = ""
    token: str = "hf_right"
    commits: dict = field(default_factory=dict)
    revisions: dict = field(default_factory=dict)
    objects: dict = field(default_factory=dict)
    requests: list = field(default_factory=list)

    def commit(self, changes, deleted):
        files = {path: body for path, body in self.tree("main").items() if path not in deleted} | changes
        oid = hashlib.sha1(json.dumps([len(self.commits), sorted(files)]).encode()).hexdigest()
        self.commits[oid] = files
        self.revisions["main"] = oid
        return oid

    def tree(self, revision):
        return self.commits.get(self.revisions.get(revision, revision), {})


def _commit(hub, body):
    changes, deleted = {}, set()
    for line in body.splitlines():
        item = json.loads(line)
        value = item["value"]
        if item["key"] == "file":
            changes[value["path"]] = base64.b64decode(value["content"])
        elif item["key"] == "lfsFile":
            changes[value["path"]] = hub.objects[value["oid"]]
        elif item["key"] == "deletedFile":
            deleted.add(value["path"])
    oid = hub.commit(changes, deleted)
    return {"commitUrl": f"{hub.url}/datasets/lab/human/commit/{oid}", "commitOid": oid, "success": True}


def _objects(hub, body):
    hrefs = {"upload": f"{hub.url}/lfs/", "verify": f"{hub.url}/verify/"}
    wanted = json.loads(body)["objects"]
    return {
        "transfer": "basic",
        "objects": [
            {**item, "actions": {name: {"href": href + item["oid"]} for name, href in hrefs.items()}} for item in wanted
        ],
    }


def _modes(body):
    modes = [
        {"path": item["path"], "uploadMode": "lfs" if item["path"].endswith(".parquet") else "regular"}
        for item in json.loads(body)["files"]
    ]
    return {"files": [{**mode, "shouldIgnore": False} for mode in modes]}


def _handler(hub):  # noqa: C901 - a handler is a class of small methods
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path, dict(self.headers)))
            if path.startswith("/lfs/") and self.command == "PUT":
                hub.objects[path.removeprefix("/lfs/")] = body
                return self.reply(200, {})
            if "lab/human" in path and self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self.reply(401, {"error": "no"}, {"X-Error-Code": "RepoNotFound"})
            if "/resolve/" in path:
                return self.serve(path)
            return self.reply(*self.api(path, body))

        def api(self, path, body):  # noqa: PLR0911 - one answer a path
            if path == "/api/repos/create":
                return 200, {"url": f"{hub.url}/datasets/lab/human", "name": "lab/human"}
            if "/preupload/" in path:
                return 200, _modes(body)
            if path.endswith("/objects/batch"):
                return 200, _objects(hub, body)
            if "/tree/" in path:
                return 200, [
                    {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                    for name, content in hub.tree("main").items()
                ]
            if "/commit/" in path:
                return 200, _commit(hub, body)
            if "/tag/" in path:
                hub.revisions[json.loads(body)["tag"]] = path.rpartition("/")[2]
                return 200, {}
            if path.endswith(("datasets/lab/human", "models/lab/human")) or "/revision/" in path:
                wanted = path.partition("/revision/")[2] or "main"
                oid = hub.revisions.get(wanted, wanted)
                if oid not in hub.commits:
                    return 404, {"error": "no"}, {"X-Error-Code": "RevisionNotFound"}
                return 200, {"id": "lab/human", "sha": oid, "siblings": [], "tags": [], "private": True}
            return 200, {}

        def serve(self, path):
            revision, _, name = path.partition("/resolve/")[2].partition("/")
            content = hub.tree(revision).get(name)
            if content is None:
                return self.reply(404, {"error": "no"}, {"X-Error-Code": "EntryNotFound"})
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])
            return None

        def reply(self, status, content, headers=None):
            body = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_HEAD = answer  # noqa: N815 - names that the library calls

        def log_message(self, *_):
            """Say nothing."""

    return Handler


@contextmanager
def serving_hub():
    """Serve until the block ends."""
    hub = Hub()
    server = QuietServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
