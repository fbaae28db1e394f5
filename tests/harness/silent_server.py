"""A server that takes every gRPC call and never answers one: `python -m … PORT`.

With `mute` after the port it takes connections and says nothing at all on them. It prints "ready",
then the method of every call.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio


class _Silence(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        async def never(request: bytes, context: Any) -> AsyncIterator[bytes]:
            print(handler_call_details.method, flush=True)
            await asyncio.Event().wait()
            yield b""

        return grpc.unary_stream_rpc_method_handler(never)


async def _take_calls(port: int) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Silence(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


def _take_connections(port: int) -> None:
    with socket.create_server(("127.0.0.1", port), backlog=256) as listener:
        print("ready", flush=True)
        taken = []
        while True:
            taken.append(listener.accept())


if __name__ == "__main__":
    if "mute" in sys.argv:
        _take_connections(int(sys.argv[1]))
    else:
        asyncio.run(_take_calls(int(sys.argv[1])))
