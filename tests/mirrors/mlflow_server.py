"""A real MLflow server in a process of its own: `python mlflow_server.py FOLDER`, which prints its address."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{folder / 'mlflow.db'}"
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = str(folder / "artifacts")
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"

    from mlflow.server import app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, app, threaded=True)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
