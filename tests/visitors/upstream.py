"""The application behind the tunnel: pages and server-sent events, WebSockets, gRPC; each on a port of its own.

Prints the ports as one line of JSON, then serves until it is killed. Messages it gets at /report go to standard output.
"""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import websockets

PAGE = """<!doctype html><title>visitor</title><script>
const socketHost = location.host.replace(/^[^.]+\\./, name => "socket." + name)
const report = (what, said) => fetch("/report", {method: "POST", body: what + "=" + said})
new EventSource("/events?count=3").onmessage = event => report("event", event.data)
const socket = new WebSocket("wss://" + socketHost + "/")
socket.onopen = () => socket.send("from a browser")
socket.onmessage = event => report("socket", event.data)
fetch("/protocol").then(answer => answer.text()).then(text => report("page", text))
</script>"""


class Pages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/events":
            asked = dict(part.split("=") for part in query.split("&"))
            return self.events(int(asked["count"]), float(asked.get("silence", 0)))
        if path == "/hinted":
            # The answer comes once the visitor may have seen the hint.
            hint = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n"
            self.wfile.write(b"HTTP/1.1 102 Processing\r\n\r\n" + hint)
            self.wfile.flush()
            time.sleep(0.3)
            return self.whole(200, "hinted")
        body = {"/": PAGE, "/protocol": self.headers.get("x-forwarded-proto", "none")}.get(path)
        self.whole(200 if body else 404, body or "no such page")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        if self.path == "/report":
            print(body, flush=True)
        self.whole(200, "heard")

    def whole(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def events(self, count, silence):
        """Each event tells when it was written, in seconds since the epoch; before the last one is silence."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(count):
            if number == count - 1:
                time.sleep(silence)
            event = f"id: {number}\ndata: {time.time()}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
            time.sleep(0.3)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


class Rpc(grpc.GenericRpcHandler):
    """Services without generated code: a message is its bytes."""

    def service(self, call):
        if call.method == "/test.Echo/Unary":
            return grpc.unary_unary_rpc_method_handler(self.unary)
        if call.method == "/test.Echo/Refuse":
            return grpc.unary_unary_rpc_method_handler(self.refuse)
        if call.method == "/test.Echo/Both":
            return grpc.stream_stream_rpc_method_handler(self.both)
        return None

    def unary(self, request, context):
        context.set_trailing_metadata((("x-trailer", "arrived"),))
        return request

    def refuse(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")

    def both(self, requests, context):
        for request in requests:
            yield request


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def main():
    pages = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    rpc = grpc.server(ThreadPoolExecutor(max_workers=8))
    rpc.add_generic_rpc_handlers((Rpc(),))
    rpc_port = rpc.add_insecure_port("127.0.0.1:0")
    rpc.start()
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        socket_port = server.sockets[0].getsockname()[1]
        print(json.dumps({"page": pages.server_port, "socket": socket_port, "rpc": rpc_port}), flush=True)
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
