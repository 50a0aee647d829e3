"""The methods of the specification's examples, served by aiohttp-rpc."""

import sys

import aiohttp_rpc
from aiohttp import web


def subtract(minuend, subtrahend):
    return minuend - subtrahend


def total(*numbers):
    return sum(numbers)


def update(*_values):
    return None


rpc = aiohttp_rpc.WSJSONRPCServer(middlewares=aiohttp_rpc.middlewares.DEFAULT_MIDDLEWARES)
rpc.add_method(aiohttp_rpc.JSONRPCMethod(subtract))
rpc.add_method(aiohttp_rpc.JSONRPCMethod(total, name="sum"))
rpc.add_method(aiohttp_rpc.JSONRPCMethod(update))

app = web.Application()
app.router.add_route("GET", "/", rpc.handle_http_request)
app.on_shutdown.append(rpc.on_shutdown)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
