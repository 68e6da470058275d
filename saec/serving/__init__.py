"""Scores with a published version, using only numpy and the safetensors format: no torch, no pydantic, no Arrow.

>>> from saec.serving import Model
"""

from saec.data.schema import Field, Schema
from saec.serving.model import Model

__all__ = ["Field", "Model", "Schema"]
