"""Scores an hour's rows, before they are learnt, with the models that served or could have served it.

Decisions: the live version, the one before it and the version made from the hour before may have been made with older
settings. Each scores with keys of its own schema, as the model server does; otherwise it would be judged on answers
that it never gave. A model that cannot answer the hour's rows is not compared.

Shapes: B rows of the hour.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from typing import TYPE_CHECKING

from saec.carry import carried_from
from saec.compression.challenger import Challenger
from saec.data.meaning import encoding
from saec.data.schema import parse_schema, schema_of, schema_text
from saec.gate.metrics import weights_of
from saec.gate.watch import BEFORE, MOST_ROWS, ORIGINAL, Watch, watched
from saec.serving import Model
from saec.serving.files import SCHEMA
from saec.store.manifest import entries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from saec.data.hashing import Keys
    from saec.data.rows import EncodedRows
    from saec.data.schema import Schema
    from saec.records import HourPlan
    from saec.train.tensors import Arrays
    from saec.workspace import Workspace

log = logging.getLogger(__name__)


def challenger_of(plan: HourPlan, workspace: Workspace, *, to_train: bool = False) -> Challenger:
    """The challenger after the hour before, or one that has seen nothing.

    Args:
        plan: of the hour.
        workspace: of the plan.
        to_train: whether it will learn; otherwise network and codebooks are only read.

    Raises:
        ConfigError: reason "meaning", when it was trained for other fields and carrying it over is not permitted.
    """
    if plan.challenger is None:
        return Challenger(plan.config)
    name = plan.challenger

    def restored(arrays: Arrays) -> Challenger:
        return Challenger.restore(plan.config, arrays, f"checkpoint {name}", carried_from(workspace, arrays, name))

    if to_train:
        return workspace.take_challenger(name, restored)
    return copy.copy(workspace.challenger(name, restored))


def other_schemas(plan: HourPlan, workspace: Workspace) -> dict[str, Schema]:
    """Schemas of these models that make other keys than the settings do, by `encoding`.

    Raises:
        ConfigError: as `challenger_of`, before anything of the hour is read.
    """
    own = schema_text(plan.config).encode()
    store, sha256 = workspace.store(), hashlib.sha256(own).hexdigest()
    others = [
        name
        for name in (plan.champion, plan.before_live)
        if name and entries(store.manifest(name))[SCHEMA].sha256 != sha256
    ]
    schemas = [parse_schema((store.open(name) / SCHEMA).read_bytes()) for name in others]
    if plan.challenger is not None:
        schemas.append(parse_schema(challenger_of(plan, workspace).files[SCHEMA]))
    found = {encoding(schema): schema for schema in schemas}
    found.pop(encoding(schema_of(plan.config)), None)
    return found


class Met:
    """The rows of an hour, and the models that score them before they are learnt."""

    def __init__(self, plan: HourPlan, workspace: Workspace, rows: EncodedRows, others: dict[str, Keys]) -> None:
        """The rows with their keys.

        Args:
            plan: of the hour.
            workspace: of the plan.
            rows: with keys by the settings' schema.
            others: keys by the schemas of other models, by `encoding`.
        """
        self._plan, self._workspace, self._rows = plan, workspace, rows
        self._keys = {**others, encoding(schema_of(plan.config)): rows.keys_BS}

    def scores(self, challenger: Challenger) -> dict[str, NDArray[np.float64]]:
        """Scores by the version made from the hour before, released or not, and by the live version."""
        scores, plan = {}, self._plan
        made = self._score(challenger.version) if challenger.version else None
        if made is not None:
            scores["version"] = made
        if plan.champion is not None:
            live = self._opened(plan.champion, verify=False)  # the store has just done so
            answered = made if challenger.made(live) else self._score(live)
            if answered is not None:
                scores["live"] = answered
        return scores

    def watch(self, scores: dict[str, NDArray[np.float64]]) -> Watch | None:
        """The evidence on the live version from the hours that it served; None without a live version."""
        plan, labels_B, weights_B = self._plan, self._rows.labels_B, self._rows.weights_B
        if plan.champion is None or "live" not in scores:
            return None
        chosen = slice(None, None, -(-len(labels_B) // MOST_ROWS) or 1)
        references = {ORIGINAL: scores["original"][chosen]}
        if plan.before_live:
            before = self._score(self._opened(plan.before_live), chosen)
            if before is not None:
                references[BEFORE] = before
        return watched(
            plan.champion,
            plan.watch,
            labels_B[chosen],
            scores["live"][chosen],
            references,
            plan.config.gate,
            weights_of(weights_B, chosen),
        )

    def _opened(self, version: str, *, verify: bool = True) -> Model:
        """A version that scores with numpy, so that recorded figures do not depend on what is installed."""
        return Model.open(self._workspace.store().open(version), verify=verify, engine="numpy")

    def _score(self, model: Model, chosen: slice = slice(None)) -> NDArray[np.float64] | None:
        """Scores of some rows by a model, through its own schema; None if it cannot answer them."""
        keys_BS = self._keys.get(encoding(model.schema))
        return None if keys_BS is None else model.score_keys(keys_BS[chosen])
