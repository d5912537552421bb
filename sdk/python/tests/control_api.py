"""A service's control API in memory, as docs/backfill.md has it, that can be
told to fail."""

import json
import urllib.parse

from serving import Handler, Serving

PIPELINE = {"pipeline": "events", "stream": "events", "received": 5, "delivered": 5, "pending": 0, "state": "idle"}
SOURCE = {"source": "lessons", "stream": "events", "kind": "objects", "state": "idle", "taken": 1, "open": 0}


def piece(name, state, **more):
    return {"name": name, "version": "v1", "state": state, "id": name, "bytes": 100, "captured": {}, **more}


class ControlApi(Serving):
    """`faults` are done to the next requests in turn: None (answer), a status
    and a body, "cut" (nothing is done), a function (it is called, then as
    "cut"), "lost" (it is done, the answer is not sent), "half" (half of the
    answer is sent)."""

    def __init__(self, slices=(), page=2, token=None):
        self.status = {"ready": True, "pipelines": [dict(PIPELINE)], "sources": [dict(SOURCE)]}
        self.slices, self.page, self.token = list(slices), page, token
        self.runs, self.looks = {}, 2
        self.counted = []
        self.faults = []
        self.requests = []
        self.answers = {}
        outer = self

        class Answering(Handler):
            def serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = outer.faults.pop(0) if outer.faults else None
                if callable(fault):
                    fault()
                if fault == "cut" or callable(fault):
                    self.close_connection = True
                    return
                if isinstance(fault, tuple):
                    self.answer(*fault)
                    return
                asked = json.loads(body) if body else None
                outer.requests.append((self.command, self.path, asked))
                given = outer.token is None or self.headers.get("Authorization") == f"Bearer {outer.token}"
                status, answer = outer.answer(self.command, self.path, asked) if given else refused(401, "unauthorized")
                if fault == "lost":
                    self.close_connection = True
                    return
                self.answer(status, answer, cut=fault == "half")

            def answer(self, status, answer, headers=None, cut=False):
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.reply(status, data, headers, cut)

            do_GET = do_POST = do_DELETE = serve

        self.serve(Answering)

    def answer(self, method, path, asked):
        path, _, query = path.partition("?")
        parameters = urllib.parse.parse_qs(query)
        if (method, path) in self.answers:
            return self.answers[method, path]
        if (method, path) == ("GET", "/v1/status"):
            return 200, self.status
        if (method, path) == ("GET", "/v1/sources/lessons/slices"):
            return 200, self.listed(parameters)
        if (method, path) == ("POST", "/v1/sources/lessons/runs"):
            return 202, self.begin(asked)
        if (method, path) == ("GET", "/v1/runs"):
            return 200, list(self.runs.values())
        parts = path.split("/")
        run = self.runs.get(parts[3]) if path.startswith("/v1/runs/") else None
        if run is None:
            return refused(404, "not_found", f"there is no {path}")
        if method == "DELETE":
            run["state"] = "cancelled"
        elif parts[4:] == ["slices"]:
            return 200, {"slices": self.counted, "next": None}
        else:
            self.look(run)
        return 200, run

    def listed(self, parameters):
        one = {name: values[0] for name, values in parameters.items()}
        wants = dict(value.split("=", 1) for value in parameters.get("where", []))
        meant = [
            known for known in self.slices
            if known["name"] > one.get("after", "") and known["name"].startswith(one.get("prefix", ""))
            and all(str(known["captured"].get(name)) == value for name, value in wants.items())
            and (known.get("date") or "") >= one.get("from", "") and (known.get("date") or "") < one.get("to", "~")
        ]
        page = meant[: self.page]
        return {
            "dates": "the hour of upload, in UTC", "slices": page,
            "next": page[-1]["name"] if len(meant) > len(page) else None,
        }

    def begin(self, asked):
        run = {
            "id": f"run-{len(self.runs)}", "source": "lessons", "again": False, "replace": None, **asked,
            "state": "waiting", "slices": 0, "slices_done": 0, "records": 0, "bytes": 0, "delivered": False, "left": self.looks,
        }
        self.runs[run["id"]] = run
        return run

    def look(self, run):
        """Every look finds it further."""
        if run["state"] in ("failed", "cancelled"):
            return
        run["left"] -= 1
        run.update(state="taking", slices=2, slices_done=1, records=7, bytes=70)
        if run["left"] <= 0:
            run.update(state="done", slices_done=2, records=14, bytes=140, delivered=run["left"] < 0)


def refused(status, code, message="no"):
    return status, {"error": {"code": code, "message": message}}
