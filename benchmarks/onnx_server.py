"""Serves the uncompressed model for comparison: onnxruntime under starlette and uvicorn, with our contract.

    python -m benchmarks.onnx_server FOLDER PORT

Decisions: this is the server that one writes in an afternoon, with orjson for JSON, and uvicorn with httptools, uvloop
and one thread. Scoring is that of `benchmarks.serving`, with our compiled key encoder. It checks nothing that Python
does not check by itself, follows no releases, and neither logs nor counts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.serving.engines import in_onnxruntime


def main(folder: Path, port: int) -> None:
    """Answer until told to stop."""
    score = in_onnxruntime(folder, "compiled")

    async def answer(request: Request) -> Response:
        asked = orjson.loads(await request.body())
        scores_B = score((asked["user"], asked["candidates"]))
        return Response(
            orjson.dumps({"version": "uncompressed", "scores": scores_B.ravel()}, option=orjson.OPT_SERIALIZE_NUMPY),
            media_type="application/json",
        )

    app = Starlette(routes=[Route("/v1/score", answer, methods=["POST"])])
    uvicorn.run(app, port=port, log_config=None, access_log=False, lifespan="off")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
