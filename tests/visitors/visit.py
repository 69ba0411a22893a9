"""Visitors by Python's own libraries: `visit.py PART ADDRESS PORT NAME.ZONE ROOT.pem SILENCE`.

PART is websockets, grpc or events; SILENCE is how long the events pause before the last one, in seconds. Prints what was measured as one line of JSON; fails loudly otherwise.
"""

import asyncio
import http.client
import json
import socket
import ssl
import sys
import time

part, address, port, name, root, silence = sys.argv[1:]
port = int(port)


def sockets():
    import websockets

    async def talk():
        trust = ssl.create_default_context(cafile=root)
        host = f"socket.{name}"
        uri = f"wss://{host}:{port}/"
        async with websockets.connect(uri, host=address, port=port, ssl=trust, server_hostname=host, max_size=None) as it:
            for message in ["text", b"binary", "x" * 70_000, b"y" * 3_000_000]:
                await it.send(message)
                assert await it.recv() == message, "a message came back changed"
            begun = time.monotonic()
            for number in range(100):
                await it.send(str(number))
                assert await it.recv() == str(number)
            turns = time.monotonic() - begun
            await (await it.ping())
        assert it.close_code == 1000, it.close_code
        return {"ms_per_turn": round(turns * 10, 2)}

    return asyncio.run(talk())


def calls():
    import grpc

    credentials = grpc.ssl_channel_credentials(open(root, "rb").read())
    options = [
        ("grpc.ssl_target_name_override", f"rpc.{name}"),
        ("grpc.default_authority", f"rpc.{name}:{port}"),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    ]
    with grpc.secure_channel(f"{address}:{port}", credentials, options) as channel:
        unary = channel.unary_unary("/test.Echo/Unary")
        answer, call = unary.with_call(b"hello", timeout=20)
        assert answer == b"hello"
        assert ("x-trailer", "arrived") in [tuple(pair) for pair in call.trailing_metadata()], call.trailing_metadata()
        big = b"z" * 2_000_000
        assert unary(big, timeout=20) == big
        try:
            channel.unary_unary("/test.Echo/Refuse")(b"", timeout=20)
            raise AssertionError("not refused")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
            assert error.details() == "as asked", error
        # Both directions at once: each message is sent only after the one before came back.
        import queue

        outbox = queue.Queue()
        answers = channel.stream_stream("/test.Echo/Both")(iter(outbox.get, None), timeout=20)
        begun = time.monotonic()
        for number in range(100):
            outbox.put(b"%d" % number)
            assert next(answers) == b"%d" % number
        turns = time.monotonic() - begun
        outbox.put(None)
        assert list(answers) == []
        return {"ms_per_turn": round(turns * 10, 2)}


def events():
    trust = ssl.create_default_context(cafile=root)
    raw = socket.create_connection((address, port))
    connection = http.client.HTTPSConnection(name, port, context=trust)
    connection.sock = trust.wrap_socket(raw, server_hostname=name)
    connection.request("GET", f"/events?count=5&silence={silence}", headers={"host": f"{name}:{port}", "accept": "text/event-stream"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    delays = []
    while line := answer.readline():
        if line.startswith(b"data: "):
            delays.append(time.time() - float(line[6:]))
    assert len(delays) == 5, delays
    return {"first_event_ms": round(delays[0] * 1000, 2), "slowest_event_ms": round(max(delays) * 1000, 2)}


print(json.dumps({"websockets": sockets, "grpc": calls, "events": events}[part]()))
