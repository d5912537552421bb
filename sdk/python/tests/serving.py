"""HTTP servers of tests: on a free port of this machine, in a thread."""

import http.server
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    """Keeps connections open, sends an answer in one piece, and logs nothing."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def reply(self, status, data, headers=None, cut=False):
        """Answers; with `cut` half of it is sent and the connection ends."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True

    def log_message(self, *_):
        pass


class Serving:
    """Serves at `url` until it is stopped."""

    def serve(self, handler):
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
