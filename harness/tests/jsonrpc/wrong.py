"""A JSON-RPC server written for this test, right unless it is told a fault: wrong.py PORT [--fault NAME]."""

import argparse
import asyncio
import json

from websockets.asyncio.server import serve

FAULTS = {
    "old-version": "JSONRPC-RESP-1",
    "result-beside-error": "JSONRPC-RESP-2",
    "id-as-text": "JSONRPC-RESP-3",
    "answers-twice": "JSONRPC-CALL-1",
    "forgets-some": "JSONRPC-CALL-1",
    "turns-parameters-round": "JSONRPC-CALL-2",
    "names-by-position": "JSONRPC-CALL-3",
    "answers-notifications": "JSONRPC-NOTE-1",
    "mute-on-nonsense": "JSONRPC-ERR-1",
    "invalid-request-is-parse-error": "JSONRPC-ERR-2",
    "one-code-for-all-methods": "JSONRPC-ERR-3",
    "wrong-parameters-are-internal": "JSONRPC-ERR-4",
    "code-as-text": "JSONRPC-ERR-5",
    "batch-one-by-one": "JSONRPC-BATCH-1",
    "empty-batch-in-kind": "JSONRPC-BATCH-2",
    "empty-answer-to-notifications": "JSONRPC-BATCH-3",
    "skips-nonsense-in-batches": "JSONRPC-BATCH-4",
}


class Failure(Exception):
    def __init__(self, code, message):
        self.code = code
        self.message = message


def subtract(minuend, subtrahend):
    return minuend - subtrahend


def total(*numbers):
    return sum(numbers)


def update(*values):
    return None


METHODS = {"subtract": subtract, "sum": total, "update": update}


class Server:
    def __init__(self, fault):
        self.fault = fault

    def call(self, method, params):
        if method not in METHODS:
            code = -32000 if self.fault == "one-code-for-all-methods" else -32601
            raise Failure(code, "method not found")
        function = METHODS[method]
        try:
            if isinstance(params, dict):
                if self.fault == "names-by-position":
                    return function(*params.values())
                return function(**params)
            if self.fault == "turns-parameters-round" and method == "subtract":
                params = params[::-1]
            return function(*params)
        except TypeError:
            code = -32603 if self.fault == "wrong-parameters-are-internal" else -32602
            raise Failure(code, "invalid params") from None

    def response(self, id, result=None, failure=None):
        version = "1.0" if self.fault == "old-version" else "2.0"
        if self.fault == "id-as-text" and isinstance(id, int):
            id = str(id)
        if failure is None:
            return {"jsonrpc": version, "result": result, "id": id}
        code = str(failure.code) if self.fault == "code-as-text" and failure.code == -32601 else failure.code
        answer = {"jsonrpc": version, "error": {"code": code, "message": failure.message}, "id": id}
        if self.fault == "result-beside-error":
            answer["result"] = None
        return answer

    def handle(self, request, batch=False):
        invalid = -32700 if self.fault == "invalid-request-is-parse-error" else -32600
        if not isinstance(request, dict):
            return self.response(None, failure=Failure(invalid, "invalid request"))
        id = request.get("id")
        if not isinstance(request.get("method"), str) or not isinstance(request.get("params", []), (list, dict)):
            return self.response(id, failure=Failure(invalid, "invalid request"))
        try:
            answer = self.response(id, self.call(request["method"], request.get("params", [])))
        except Failure as failure:
            answer = self.response(id, failure=failure)
        if "id" not in request and (batch or self.fault != "answers-notifications"):
            return None
        return answer

    async def talk(self, client):
        asked = 0
        async for text in client:
            try:
                request = json.loads(text)
            except ValueError:
                if self.fault != "mute-on-nonsense":
                    await client.send(json.dumps(self.response(None, failure=Failure(-32700, "parse error"))))
                continue
            if isinstance(request, list) and request:
                parts = request
                if self.fault == "skips-nonsense-in-batches":
                    parts = [part for part in parts if isinstance(part, dict)]
                answers = [answer for part in parts if (answer := self.handle(part, batch=True)) is not None]
                if self.fault == "batch-one-by-one" and isinstance(request[0], dict):
                    for answer in answers:
                        await client.send(json.dumps(answer))
                elif answers or self.fault == "empty-answer-to-notifications":
                    await client.send(json.dumps(answers))
                continue
            if request == []:
                answer = self.response(None, failure=Failure(-32600, "invalid request"))
                answer = [answer] if self.fault == "empty-batch-in-kind" else answer
            else:
                answer = self.handle(request)
            if answer is None:
                continue
            asked += 1
            if self.fault == "forgets-some" and asked % 3 == 0:
                continue
            await client.send(json.dumps(answer))
            if self.fault == "answers-twice":
                await client.send(json.dumps(answer))


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--fault", choices=sorted(FAULTS))
    args = parser.parse_args()
    async with serve(Server(args.fault).talk, "127.0.0.1", args.port):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main())
